-- Hands a shard the version of all that is struck on its docket, so that whoever claims a run there learns whether to read again.
-- KEYS: meta
-- ARGV: now, state channels, version, version it is to take the place of ('': any that is lower)
-- Replies: the version that stands. Events: none. A repeat changes nothing.
local function main()
  redis.call('HDEL', KEYS[1], '') -- takes nothing away; a server out of memory refuses a script that starts by writing a hash, and striking may be how it is saved
  local stands = redis.call('HGET', KEYS[1], 'strikes') or '0'
  if not string.match(stands, '^%d+$') or tonumber(stands) > 2^53 then -- somebody wrote over it; whoever claims takes it for 0, too
    stands = '0'
  end
  if (ARGV[4] == '' and tonumber(stands) < tonumber(ARGV[3])) or ARGV[4] == stands then
    stands = ARGV[3]
    redis.call('HSET', KEYS[1], 'strikes', stands)
  end
  return stands
end
