-- Takes generations before the runs are there that are to have them: what is signed is signed for one generation.
-- KEYS: stream, meta
-- ARGV: now, state channels, how many
-- Replies: the last of them; a number that is then not used is never used
-- Events: none. A repeat takes others.
local function main()
  redis.call('XDEL', KEYS[1], '0-0') -- deletes nothing; a server out of memory refuses a script that starts by writing a hash, and draining needs this one
  return redis.call('HINCRBY', KEYS[2], 'generation', tonumber(ARGV[3]))
end
