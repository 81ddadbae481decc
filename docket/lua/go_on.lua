-- Takes `halt` back: the docket stays as it was, and what was given before is never given again.
-- KEYS: meta
-- ARGV: now, state channels
-- Replies: the last generation so far. Events: none. A repeat changes nothing.
local function main()
  local generation = redis.call('HGET', KEYS[1], 'halted')
  if generation then
    redis.call('HSET', KEYS[1], 'generation', generation)
  end
  redis.call('HDEL', KEYS[1], 'moving', 'halted')
  return redis.call('HGET', KEYS[1], 'generation') or '0'
end
