-- Says that a worker instance can claim work, and which tasks it knows.
-- KEYS: workers, the instance's description, meta
-- ARGV: now, state channels, instance, name, tasks ('' = as last time), ttl_ms, forget_us (others silent for so long are forgotten),
--       how many shards it reads, 'sharded' where they have channels of their own
-- Replies: {1, or 0 when the description is gone and has to be sent again; how many shards the docket has by now}
--       Where all data was lost, it is recorded again that there are several.
-- Events: none
local function main()
  -- Takes nobody away. A server out of memory refuses a script that starts by adding, and a full server is drained by live workers.
  redis.call('ZREM', KEYS[1], '')
  redis.call('ZADD', KEYS[1], string.format('%.0f', lease_now), ARGV[3])
  if ARGV[5] ~= '' then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', lease_now - tonumber(ARGV[7])))
    redis.call('HSET', KEYS[2], 'name', ARGV[4], 'tasks', ARGV[5])
  end
  local shards = redis.call('HGET', KEYS[3], 'shards')
  if not shards and ARGV[8] ~= '1' and not redis.call('HGET', KEYS[3], 'layout') then
    shards = ARGV[8]
    redis.call('HSET', KEYS[3], 'layout', 2, 'shards', shards, 'channels', ARGV[9])
  end
  return { redis.call('PEXPIRE', KEYS[2], ARGV[6]), shards or '1' }
end
