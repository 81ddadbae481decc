-- Ends claims, and makes what follows live in the same step: a retry, the next link of a chain, the successor a run asked for.
-- KEYS: stream, queue, meta, waiting limits, dead letters, then per item its record, with `wide` also its payload, its successor's payload and its
--       outcome, with a limit its holders, waiters and most, and with an attempt its dead letter
-- ARGV: now, state channels, wake channel, group, ttl_ms, how long dead letters are kept (ms), then per item:
--       message id, key, generation, delivery, state (completed | failed | cancelled), again ('' | retry | next | release | end),
--       when ('' = now), attempt (of a next link: its generation, '': the next one; of a release, 'unknown': nobody here knows the task), payload ('' = as before), payload is large ('1'), outcome, outcome is large ('1'), error, wide ('1'),
--       identity of the concurrency limit whose place it gives up ('': none), attempt that failed, as a line of JSON ('': not kept)
-- Replies, per item: {'settled', state or ''} | {'superseded'} | {'gone'} | {'error', message}
--       release: as though it had not been claimed; it is nobody's from then on, so its delivery number rises.
--       end: nothing follows, also not the successor that the run asked for.
--       state: what the key's record says afterwards; 'cancelled' also where a retry was asked for and the run had been cancelled meanwhile.
-- Counts, in meta: completed, failed, cancelled, retried, once a batch.
-- Events: state. A repeat (same generation and delivery) answers 'settled', or 'gone' when nothing was to be kept.
--@include run
--@include wake
--@include create
--@include finish
--@include limits
--@include bury
--@include generation

local ITEM = 16 -- arguments of one item

local totals = {}

local function count(word)
  totals[word] = (totals[word] or 0) + 1
end

local function number_of(item)
  return item.again == 'next' and tonumber(item.attempt) or next_generation(KEYS[3])
end

local function fields_of_next(keys, item, run)
  if run.next_generation and item.again ~= 'retry' then
    if run.next_large then
      redis.call('SET', keys.payload, large_payload(keys.successor))
      redis.call('DEL', keys.successor)
    elseif run.large then
      redis.call('DEL', keys.payload)
    end
    return { generation = run.next_generation, fn = run.next_function, when = run.next_when, payload = run.next_payload, large = run.next_large,
      trace = run.next_trace, token = run.next_token }
  end
  local following = { generation = number_of(item), fn = run['function'], when = item.when, payload = run.payload,
    large = run.large, trace = run.trace, token = '' }
  if item.payload ~= '' then
    if item.payload_is_large then
      redis.call('SET', keys.payload, item.payload)
      following.payload = nil
      following.large = '1'
    else
      if run.large then
        redis.call('DEL', keys.payload)
      end
      following.payload = item.payload
      following.large = nil
    end
  end
  return following
end

-- The next link: this generation's end is kept beside the record, which from here on is the next generation's.
local function move_on(keys, item, run)
  local following = fields_of_next(keys, item, run)
  local state, when = place(KEYS[1], KEYS[2], item.key, following.generation, following.when)
  if ARGV[5] ~= '0' then
    redis.call('SET', keys.outcome, item.outcome, 'PX', ARGV[5])
  end
  local fields = { 'state', state, 'generation', following.generation, 'function', following.fn, 'when', when, 'token', following.token,
    'settled', item.generation .. '.' .. item.delivery, 'earlier', remembered(item.generation, item.state, now_text) }
  for name, value in pairs({ payload = following.payload or false, large = following.large or false, trace = following.trace or false }) do
    if value and value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  redis.call('DEL', keys.record)
  redis.call('HSET', keys.record, unpack(fields))
  count(item.state)
  announce(item.key, item.generation, item.state, run, now_text, item.error)
  announce(item.key, following.generation, state, { when = when })
  return state
end

-- The same run again: a retry, or handed back as though it had not been claimed. A retry remembers when the run was first due and first started.
local function try_again(keys, item, run)
  drop_successor(keys, item.key, run)
  local state, when = place(KEYS[1], KEYS[2], item.key, run.generation, item.when)
  local fields = { 'state', state, 'settled', item.generation .. '.' .. item.delivery }
  if item.again == 'release' then -- what its body may still do is not that of the next one, and not settled by it
    fields[#fields + 1] = 'delivery'
    fields[#fields + 1] = tostring(tonumber(run.delivery) + 1)
    if item.attempt == 'unknown' then
      fields[#fields + 1] = 'unknown_since'
      fields[#fields + 1] = run.unknown_since or now_text
    end
  else
    count('retried')
    local origin = run.origin or ((run.when or '') .. ' ' .. (run.started_at or ''))
    fields = { 'state', state, 'settled', item.generation .. '.' .. item.delivery, 'when', when, 'attempt', item.attempt, 'origin', origin }
    if item.failure ~= '' then
      fields[#fields + 1] = 'history'
      fields[#fields + 1] = history_with(run, item.failure)
    end
    if item.error ~= '' then
      fields[#fields + 1] = 'error'
      fields[#fields + 1] = string.sub(item.error, 1, 64)
    end
  end
  redis.call('HDEL', keys.record, unpack(OF_A_CLAIM))
  if item.again == 'retry' then -- its worker lives
    redis.call('HDEL', keys.record, 'crashes', 'blamed')
  end
  redis.call('HSET', keys.record, unpack(fields))
  announce(item.key, run.generation, state, { when = when }, '', item.error ~= '' and item.error or run.error)
  return state
end

local function settle(keys, item)
  local run = read(keys.record)
  if not run.state then
    return { 'gone' }
  end
  if run.settled == item.generation .. '.' .. item.delivery then
    return { 'settled', run.state }
  end
  if run.generation ~= item.generation or run.delivery ~= item.delivery then
    return { 'superseded' }
  end
  if run.state ~= 'running' then
    return { LIVE[run.state] and 'superseded' or 'settled', run.state }
  end
  if not (run.next_function and run.next_when and run.next_token) then -- somebody wrote there what is no successor
    run.next_generation = nil
  end
  local same_run = item.again == 'retry' or item.again == 'release'
  if item.failure ~= '' and item.state == 'failed' and not same_run then
    bury(keys, item.key, run, item.failure, ARGV[6])
  end
  if run.cancel then
    if same_run then
      item.state = 'cancelled'
      item.outcome = ''
    end
  elseif same_run then
    return { 'settled', try_again(keys, item, run) }
  elseif item.again == 'next' or (run.next_generation and item.again ~= 'end') then
    return { 'settled', move_on(keys, item, run) }
  end
  drop_successor(keys, item.key, run)
  finish(keys, item.key, run, item.state, ARGV[5], item.outcome, item.outcome_is_large, item.error)
  count(item.state)
  return { 'settled', item.state }
end

-- What most runs are: completed, with nothing to follow and nothing to keep but the record. Answers nothing for any other.
local function settle_plainly(record, a, head)
  local state, generation, delivery, cancel, successor, when, worker, started_at = unpack(head)
  if state ~= 'running' or generation ~= ARGV[a + 2] or delivery ~= ARGV[a + 3] or cancel or successor or not (when and worker and started_at) or ARGV[5] == '0'
    or ARGV[a + 5] ~= '' or ARGV[a + 10] ~= '' or ARGV[a + 13] ~= '' or ARGV[a + 15] ~= '' then
    return nil
  end
  redis.call('HSET', record, 'state', ARGV[a + 4], 'completed_at', now_text)
  redis.call('PEXPIRE', record, ARGV[5])
  count(ARGV[a + 4])
  tell(ARGV[a + 1], generation, ARGV[a + 4], when, worker, started_at, now_text, '', '')
  return { 'settled', ARGV[a + 4] }
end

-- How many keys an item has.
local function width(a)
  return (ARGV[a + 13] == '1' and 4 or 1) + (ARGV[a + 14] ~= '' and 3 or 0) + (ARGV[a + 15] ~= '' and 1 or 0)
end

local function settle_in_full(k, a)
  local keys = { record = KEYS[k] }
  if ARGV[a + 13] == '1' then
    keys.payload, keys.successor, keys.outcome = KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  end
  keys.dead, keys.letter = KEYS[5], KEYS[k + width(a) - 1]
  return settle(keys, {
    key = ARGV[a + 1], generation = ARGV[a + 2], delivery = ARGV[a + 3], state = ARGV[a + 4], again = ARGV[a + 5],
    when = ARGV[a + 6], attempt = ARGV[a + 7], payload = ARGV[a + 8], payload_is_large = ARGV[a + 9] == '1',
    outcome = ARGV[a + 10], outcome_is_large = ARGV[a + 11] == '1', error = ARGV[a + 12], failure = ARGV[a + 15],
  })
end

-- Of a run that was replaced too: it was the body that held the place, and it is done. But a run that was taken from its worker
-- keeps its place for the worker that has it now.
local function give_up_place(k, a, head)
  if head[2] == ARGV[a + 2] and head[3] ~= ARGV[a + 3] then
    return
  end
  leave(KEYS[1], KEYS[4], { identity = ARGV[a + 14], holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }, ARGV[a + 2])
end

-- Before anything is written: what cannot be settled as it was asked keeps its entry.
local function look(record, a)
  local head = pick(record, 'state', 'generation', 'delivery', 'cancel', 'next_generation', 'when', 'worker', 'started_at', 'large')
  local narrow = ARGV[a + 13] ~= '1' and head[1] == 'running' and head[2] == ARGV[a + 2] and head[3] == ARGV[a + 3]
  if narrow and (head[5] or head[9] or ARGV[a + 5] == 'next') then
    error('this run needs its wide keys: it has a successor, a large payload or a next link')
  end
  return head
end

local function main()
  local places, heads, failures, replies = {}, {}, {}, {}
  local acknowledge, delete = { 'XACK', KEYS[1], ARGV[4] }, { 'XDEL', KEYS[1] }
  local k = 6
  for a = 7, #ARGV, ITEM do
    local fine, head = pcall(look, KEYS[k], a)
    places[#places + 1] = k
    heads[#places] = fine and head
    failures[#places] = not fine and head
    k = k + width(a)
  end
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and a full server is to drain.
  redis.call('XDEL', KEYS[1], '0-0')
  for i, place in ipairs(places) do
    local a = ITEM * i - 9
    if heads[i] then
      replies[i] = settle_plainly(KEYS[place], a, heads[i]) or attempt(settle_in_full, place, a)
    else
      replies[i] = attempt(error, failures[i])
    end
    -- What could not be settled keeps its entry and its place: without the entry nobody would ever take it over.
    if replies[i][1] ~= 'error' then
      acknowledge[#acknowledge + 1] = ARGV[a]
      delete[#delete + 1] = ARGV[a]
      if ARGV[a + 14] ~= '' then
        attempt(give_up_place, place + (ARGV[a + 13] == '1' and 4 or 1), a, heads[i])
      end
    end
  end
  if acknowledge[4] then
    redis.call(unpack(acknowledge))
    redis.call(unpack(delete))
  end
  for word, number in pairs(totals) do
    redis.call('HINCRBY', KEYS[3], word, number)
  end
  wake_movers(ARGV[3])
  return replies
end
