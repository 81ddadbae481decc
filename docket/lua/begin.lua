-- Makes the consumer group of a stream that has work in it, also where the server is out of memory and would refuse it: somebody has to drain it.
-- KEYS: stream
-- ARGV: now, state channels, group
-- Replies: 'ready': there is a group | 'empty': there is nothing to drain, and nothing was made
-- Events: none. A repeat changes nothing.
local function main()
  if redis.call('XLEN', KEYS[1]) == 0 then
    return 'empty'
  end
  -- Deletes nothing. A full server refuses a script that starts by making something.
  redis.call('XDEL', KEYS[1], '0-0')
  begin(KEYS[1], ARGV[3])
  return 'ready'
end
