-- Reads records, those that are wanted: a page of a listing. Changes nothing.
-- KEYS: per item its record and its payload
-- ARGV: now, state channels, states wanted ('' any; else ',queued,running,'), task wanted ('' any), bytes of large payloads to bring along,
--       then per item its generation ('' any)
-- Replies, per item: 0 (nothing there, or not wanted) | {record} | {record, large payload} | {'error', message}
--       A record is flat, as HGETALL gives it. A large payload that is gone, or that the bytes do not suffice for, is left out.
-- Events: none
--@include run

local room = tonumber(ARGV[5])

local function look(record, payload_key, generation)
  local state, fn, found = unpack(pick(record, 'state', 'function', 'generation'))
  if not state or (generation ~= '' and found ~= generation) or (ARGV[4] ~= '' and fn ~= ARGV[4])
    or (ARGV[3] ~= '' and not string.find(ARGV[3], ',' .. state .. ',', 1, true)) then
    return 0
  end
  local flat = redis.call('HGETALL', record)
  local payload = redis.call('HGET', record, 'large') and length(payload_key) <= room and redis.call('GET', payload_key)
  if not payload then
    return { flat }
  end
  room = room - #payload
  return { flat, payload }
end

local function main()
  local replies = {}
  for i = 6, #ARGV do
    local k = 2 * i - 11
    replies[#replies + 1] = attempt(look, KEYS[k], KEYS[k + 1], ARGV[i])
  end
  return replies
end
