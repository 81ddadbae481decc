-- Keeps what ended FAILED for good as a dead letter. Needs: now, run. attempt: a line of JSON that tells of the last attempt; those before it stand in the record.
local MOST_ATTEMPTS = 20
local MOST_BYTES = 65536

local function history_with(run, attempt)
  local history = run.history and (run.history .. '\n' .. attempt) or attempt
  local _, lines = string.gsub(history, '\n', '')
  while (lines >= MOST_ATTEMPTS or #history > MOST_BYTES) and lines > 0 do
    history = string.match(history, '^[^\n]*\n(.*)$')
    lines = lines - 1
  end
  return history
end

-- keys: dead, letter [, payload, of a run with a large one]
local function bury(keys, key, run, attempt, retention_ms)
  local payload = run.payload
  if run.large and keys.payload then
    payload = large_payload(keys.payload)
  end
  payload = payload or ''
  local fields = { 'key', key, 'function', run['function'] or '', 'payload', payload, 'size', #payload, 'when', run.when or '', 'attempt', run.attempt or '1',
    'generation', run.generation, 'died_at', now_text, 'history', history_with(run, attempt) }
  if run.trace then
    fields[#fields + 1] = 'trace'
    fields[#fields + 1] = run.trace
  end
  redis.call('HSET', keys.letter, unpack(fields))
  redis.call('PEXPIRE', keys.letter, retention_ms)
  redis.call('ZADD', keys.dead, '-' .. now_text, run.generation) -- the latest first: the in-process engine reads no range backwards
  redis.call('PEXPIRE', keys.dead, retention_ms)
end
