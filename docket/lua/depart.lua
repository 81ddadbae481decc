-- Takes a worker instance off every list; it holds nothing any more.
-- KEYS: workers, the instance's description, leases
-- ARGV: now, state channels, instance
-- Replies: 1. Events: none
local function main()
  redis.call('ZREM', KEYS[1], ARGV[3])
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[3], ARGV[3])
  return 1
end
