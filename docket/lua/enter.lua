-- Makes a run ready that a limit in another shard has let in.
-- KEYS: stream, record, runs that are away
-- ARGV: now, state channels, key, generation, identity of the limit
-- Replies: {'entered'} | {'running'}: it has not been set aside yet, or went on with its place | {'gone'}: the place is nobody's
-- Events: none. A repeat changes nothing.
--@include run

local function main()
  local record, key = KEYS[2], ARGV[3]
  local state, generation, parked, entered = unpack(pick(record, 'state', 'generation', 'parked', 'entered'))
  if generation ~= ARGV[4] or (state ~= 'queued' and state ~= 'running') then
    return { 'gone' }
  end
  if state == 'running' then
    return { 'running' }
  end
  if parked ~= ARGV[5] then
    return { entered == ARGV[5] and 'entered' or 'gone' }
  end
  redis.call('ZREM', KEYS[3], key)
  redis.call('HDEL', record, 'parked')
  redis.call('HSET', record, 'entered', ARGV[5])
  redis.call('XADD', KEYS[1], '*', 'key', key, 'generation', generation, 'limit', ARGV[5])
  rouse_readers()
  return { 'entered' }
end
