-- Takes generations before the runs are there that are to have them: what is signed is signed for one generation.
-- KEYS: stream, meta
-- ARGV: now, state channels, how many
-- Replies: the last of them; a number that is then not used is never used
-- Events: none. A repeat takes others.
--@include generation

local function main()
  redis.call('XDEL', KEYS[1], '0-0') -- deletes nothing; a server out of memory refuses a script that starts by writing a hash, and draining needs this one
  local first = next_generation(KEYS[2])
  local others = tonumber(ARGV[3]) - 1
  return others == 0 and first or redis.call('HINCRBY', KEYS[2], 'generation', others)
end
