-- Reads dead letters, those that are wanted: a page of a listing. Changes nothing.
-- KEYS: per letter its hash
-- ARGV: now, state channels, task wanted ('' any), how its key is to begin, bytes of arguments and attempts to bring along
-- Replies, per letter: 0 (gone, or not wanted) | {key, task, when, attempt, generation, died_at, trace, bytes of arguments, attempts, '1', arguments}
--       | {..., attempts, ''}: what the bytes do not suffice for is left out; of the attempts the last is there | {'error', message}
-- Events: none
--@include run

local room = tonumber(ARGV[5])

local function look(letter)
  local key, fn, when, attempts, generation, died_at, trace, size, history = unpack(pick(letter, 'key', 'function', 'when', 'attempt', 'generation',
    'died_at', 'trace', 'size', 'history'))
  if not key or (ARGV[3] ~= '' and fn ~= ARGV[3]) or string.sub(key, 1, #ARGV[4]) ~= ARGV[4] then
    return 0
  end
  history = history or ''
  local reply = { key, fn or '', when or '', attempts or '', generation or '', died_at or '', trace or '', size or '', history, '1' }
  local weight = #history + (tonumber(size) or 0)
  if weight > room then
    reply[9] = string.match(history, '.*\n(.*)$') or history
    reply[10] = ''
    return reply
  end
  room = room - weight
  reply[11] = redis.call('HGET', letter, 'payload') or ''
  return reply
end

local function main()
  local replies = {}
  for i, letter in ipairs(KEYS) do
    replies[i] = attempt(look, letter)
  end
  return replies
end
