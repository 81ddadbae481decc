-- Runs a dead letter again: a new run under its key, of its first attempt, with the same trace; in the same step the letter goes.
-- KEYS: stream, queue, meta, dead letters, the letter, record, payload, outcome of the run that died
-- ARGV: now, state channels, wake channel, ttl_ms, generation of the run that died, key, token, when ('' = now),
--       generation that was taken for the new run ('': the next one), its payload, whether it is given ('1'; else it is as it was)
-- Replies: {'created', generation, state, when} | {'wrong', state}: a run of that key lives | {'gone'}: the letter is not there (any more)
--       | {'sealed'}: its payload is good for the run that died only, so give one that is sealed anew
--       | {'stale'}: a later run came to stand under the key since the generation was taken. Nothing was done; take another.
-- Events: state (scheduled, queued), wake. A repeat (same token) answers as the first time did, for as long as the run it made stands there.
-- How the run that died ended is kept beside the record, for whoever still asks for its result.
--@include run
--@include wake
--@include generation
--@include create

local MOST_BYTES = 64 -- that may stand in a record; a longer value would cost the hash its compact form

local function main()
  local letter = read(KEYS[5])
  local run = read(KEYS[6])
  if run.token == ARGV[7] then
    return { 'created', tonumber(run.generation), run.state, run.when }
  end
  if not letter.key then
    return { 'gone' }
  end
  if LIVE[run.state] then
    return { 'wrong', run.state }
  end
  if run.state and ARGV[9] ~= '' and tonumber(ARGV[9]) <= tonumber(run.generation) then
    return { 'stale' }
  end
  local payload = ARGV[11] == '1' and ARGV[10] or letter.payload or ''
  if ARGV[11] ~= '1' and string.sub(payload, 1, 1) == '\3' then
    return { 'sealed' }
  end

  local generation = tonumber(ARGV[9]) or next_generation(KEYS[3])
  local earlier = remembered(ARGV[5], 'failed', letter.died_at or '')
  if run.state then
    earlier = remembered(run.generation, run.state, run.completed_at or '')
    if run.generation == ARGV[5] and run.outcome and ARGV[4] ~= '0' then
      redis.call('SET', KEYS[8], run.outcome, 'PX', ARGV[4])
    end
  end
  redis.call('DEL', KEYS[6], KEYS[7])
  local created = create({ stream = KEYS[1], queue = KEYS[2], record = KEYS[6], payload = KEYS[7] }, {
    key = ARGV[6], fn = letter['function'] or '', when = ARGV[8], payload = payload, large = #payload > MOST_BYTES, trace = letter.trace or '', token = ARGV[7],
  }, generation, earlier)
  redis.call('ZREM', KEYS[4], ARGV[5])
  redis.call('DEL', KEYS[5])
  wake_movers(ARGV[3])
  return created
end
