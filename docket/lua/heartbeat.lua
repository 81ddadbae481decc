-- Says that a worker instance can claim work, and which tasks it knows.
-- KEYS: workers, the instance's description
-- ARGV: now, state channels, instance, name, tasks ('' = as last time), ttl_ms, forget_us (others silent for so long are forgotten)
-- Replies: 1, or 0 when the description is gone and has to be sent again
-- Events: none
local function main()
  -- Takes nobody away. A server out of memory refuses a script that starts by adding, and a full server is drained by live workers.
  redis.call('ZREM', KEYS[1], '')
  redis.call('ZADD', KEYS[1], string.format('%.0f', lease_now), ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', lease_now - tonumber(ARGV[7])))
    redis.call('HSET', KEYS[2], 'name', ARGV[4], 'tasks', ARGV[5])
  end
  return redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
