-- Says that the body of a suspect is alone in its worker from here on: if the worker dies, it is this run's doing. Or that it is so no longer.
-- KEYS: record
-- ARGV: now, state channels, generation, delivery, alone ('1')
-- Replies: 'noted' | 'superseded'
-- Events: none. A repeat changes nothing.
local function main()
  if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[3] or redis.call('HGET', KEYS[1], 'delivery') ~= ARGV[4] then
    return 'superseded'
  end
  redis.call('HDEL', KEYS[1], 'alone') -- first: a server out of memory refuses a script that starts by writing a hash
  if ARGV[5] == '1' then
    redis.call('HSET', KEYS[1], 'alone', '1')
  end
  return 'noted'
end
