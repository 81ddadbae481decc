-- Reads a record, and marks its place in the flow of events: what is heard before the mark is older than the record, what is heard after it is newer.
-- KEYS: record
-- ARGV: now, state channels, channel of the asker's own, mark
-- Replies: the record, flat, as HGETALL gives it. Changes nothing.
-- Events: the mark, on the asker's channel

local function main()
  local flat = redis.call('HGETALL', KEYS[1])
  publish_mark(ARGV[3], ARGV[4])
  return flat
end
