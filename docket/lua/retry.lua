-- Runs again what failed or was cancelled: a new run under its key, of its first attempt, with the same arguments and the same trace.
-- KEYS: stream, meta, record, payload, outcome of the run that ended, dead letters, the dead letter of that run, which goes
-- ARGV: now, state channels, ttl_ms, key, generation of the run that ended, token,
--       generation that was taken for the new run ('': the next one, with the payload as it is), its payload, payload is large ('1')
-- Replies: {'created', generation, state, when} | {'wrong', state} | {'superseded'} | {'gone'}
-- Events: state (queued). A repeat (same token) answers as the first time did.
-- How the other run ended is kept beside the record, for whoever still asks for its result.
--@include run
--@include wake
--@include generation
--@include create

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

  local generation = tonumber(ARGV[7]) or next_generation(KEYS[2])
  if not run.beside then
    redis.call('SET', KEYS[5], run.outcome or (ENDS[run.state] .. '0:,'), 'PX', ARGV[3])
  end
  local new = { key = ARGV[4], fn = run['function'], when = '', payload = payload or run.payload or '', large = run.large, trace = run.trace or '', token = ARGV[6] }
  if ARGV[7] ~= '' then
    new.payload, new.large = ARGV[8], ARGV[9] == '1'
  end
  redis.call('DEL', KEYS[3], KEYS[4])
  local created = create({ stream = KEYS[1], record = KEYS[3], payload = KEYS[4] }, new, generation, remembered(run.generation, run.state, run.completed_at or ''))
  redis.call('ZREM', KEYS[6], ARGV[5])
  redis.call('DEL', KEYS[7])
  return created
end
