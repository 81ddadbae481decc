-- Strikes what an instruction names, or restores it.
-- KEYS: strikes, meta
-- ARGV: now, state channels, strikes channel, verb (strike | restore), instruction, most strikes that may stand, how many shards the caller knows of
-- Replies: {'struck' | 'restored', version before, version} | {'unchanged', version, version} | {'full', how many stand}
--       | {'divided', shards}: there are more or fewer of them, who would not be told. Nothing was done.
--       version: of all that is struck. It is the moment of the change, and more than the one before, so that none is used again:
--       not where the data was lost and begun anew, nor on a replica that takes over.
-- Events: strikes (version before, version, verb, instruction). A repeat changes nothing.
--@include run

local function main()
  local verb, instruction = ARGV[4], ARGV[5]
  local shards = redis.call('HGET', KEYS[2], 'shards') or redis.call('HGET', KEYS[2], 'layout') and '1'
  if shards and shards ~= ARGV[7] then
    return { 'divided', shards }
  end
  -- Takes nothing away. A server out of memory refuses a script that starts by writing a hash, and striking may be how it is saved.
  redis.call('HDEL', KEYS[1], '')
  local before = redis.call('HGET', KEYS[2], 'strikes') or '0'
  if not string.match(before, '^%d+$') or #before > 16 then -- somebody wrote over it
    before = '0'
  end
  if (redis.call('HGET', KEYS[1], instruction) and 'strike' or 'restore') == verb then
    return { 'unchanged', before, before }
  end
  if verb == 'restore' then
    redis.call('HDEL', KEYS[1], instruction)
  else
    local stand = size(KEYS[1])
    if stand >= tonumber(ARGV[6]) then
      return { 'full', stand }
    end
    redis.call('HSET', KEYS[1], instruction, now_text)
  end
  local version = string.format('%.0f', math.max(now, tonumber(before) + 1))
  redis.call('HSET', KEYS[2], 'strikes', version)
  publish(ARGV[3], netstring(before) .. netstring(version) .. netstring(verb) .. netstring(instruction))
  return { verb == 'strike' and 'struck' or 'restored', before, version }
end
