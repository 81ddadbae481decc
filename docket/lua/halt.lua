-- Has a shard, or a docket in one piece, give no more generations: it is being moved to another number of shards. Whoever still has it open is refused.
-- KEYS: meta
-- ARGV: now, state channels, how many shards there are to be
-- Replies: the last generation so far, which stands in `halted`. Events: none. A repeat changes nothing but the number of shards.
local function main()
  local generation = redis.call('HGET', KEYS[1], 'generation')
  redis.call('HSET', KEYS[1], 'moving', ARGV[3])
  if generation then
    redis.call('HSET', KEYS[1], 'halted', generation)
    redis.call('HDEL', KEYS[1], 'generation')
  end
  return redis.call('HGET', KEYS[1], 'halted') or '0'
end
