-- Runs again what failed or was cancelled: a new run under its key, of its first attempt, with the same arguments and the same trace.
-- KEYS: stream, meta, record, payload, outcome of the run that ended, dead letters, the dead letter of that run, which goes
-- ARGV: now, state channels, ttl_ms, key, generation of the run that ended, token,
--       generation that was taken for the new run ('': the next one, with the payload as it is), its payload, payload is large ('1')
-- Replies: {'created', generation, state, when} | {'wrong', state} | {'superseded'} | {'gone'}
-- Events: state (queued). A repeat (same token) answers as the first time did.
-- How the other run ended is kept beside the record, for whoever still asks for its result.
--@include run

local ENDS = { failed = 'f', cancelled = 'x' }

local function main()
  local run = read(KEYS[3])
  if not run.state then
    return { 'gone' }
  end
  if run.token == ARGV[6] then
    return { 'created', tonumber(run.generation), run.state, run.when }
  end
  if run.generation ~= ARGV[5] then
    return { 'superseded' }
  end
  if not ENDS[run.state] then
    return { 'wrong', run.state }
  end
  local payload = run.large and redis.call('GET', KEYS[4])
  if run.large and not payload then
    return { 'gone' }
  end

  local generation = tonumber(ARGV[7]) or redis.call('HINCRBY', KEYS[2], 'generation', 1)
  if not run.beside then
    redis.call('SET', KEYS[5], run.outcome or (ENDS[run.state] .. '0:,'), 'PX', ARGV[3])
  end
  if ARGV[7] ~= '' then
    payload = ARGV[9] == '1' and ARGV[8]
    run.large = payload and '1'
    run.payload = not payload and ARGV[8]
    redis.call('DEL', KEYS[4])
  end
  if payload then
    redis.call('SET', KEYS[4], payload) -- without the expiry it had
  end
  local state = enqueue(KEYS[1], '', ARGV[4], generation, now_text)
  local fields = { 'state', state, 'generation', generation, 'function', run['function'], 'when', now_text, 'token', ARGV[6],
    'earlier', remembered(run.generation, run.state, run.completed_at or '') }
  for _, name in ipairs({ 'payload', 'large', 'trace' }) do
    if run[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = run[name]
    end
  end
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], unpack(fields))
  redis.call('ZREM', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[7])
  announce(ARGV[4], generation, state, { when = now_text })
  return { 'created', generation, state, now_text }
end
