-- Takes a worker instance off the consumer group, unless entries are still pending with it, which would be thrown away.
-- KEYS: stream
-- ARGV: now, state channels, group, instance
-- Replies: 'forgotten' | 'kept'
-- Events: none. A repeat answers as the first time did.
local function main()
  return forget(KEYS[1], ARGV[3], ARGV[4]) and 'forgotten' or 'kept'
end
