-- Makes runs: under keys that are free, under any key when told to replace, or as the successor of the run that asks.
-- KEYS: stream, queue, meta, then per item its record, and with `wide` also its payload and its successor's payload
-- ARGV: now, state channels, cancel channel, wake channel, then per item:
--       key, function, when ('' = now), payload, trace, token, replace ('1'), wide ('1'), large ('1'), generation ('': the next one; else one that
--       was taken for it), generation and delivery of the asking run
-- Replies, per item: {'created' | 'exists', generation, state, when} | {'stale'} | {'error', message}
--       stale: a later run came to stand under the key since the generation was taken. Nothing was done; take another.
-- Events: state (scheduled, queued; cancelled+superseded for what was replaced), cancel (a running run was replaced), wake
-- A run that replaces itself sees itself out: it is not told to stop.
-- A repeat (same token) answers as the first time did.
--@include run
--@include wake
--@include generation
--@include create

local looked = false

local function number_of(item)
  if item.generation == '' then
    return next_generation(KEYS[3])
  end
  if not looked then -- it was taken before this, and meanwhile the docket may have been moved
    refuse_if_elsewhere(KEYS[3])
    looked = true
  end
  return tonumber(item.generation)
end

local function succeed(keys, item, run)
  if run.next_token == item.token then
    return { 'created', tonumber(run.next_generation), 'scheduled', run.next_when }
  end
  if run.next_generation then
    return { 'exists', tonumber(run.next_generation), 'scheduled', run.next_when }
  end
  local generation = number_of(item)
  local when = item.when
  if when == '' then
    when = now_text
  end
  local fields = { 'next_generation', generation, 'next_function', item.fn, 'next_when', when, 'next_token', item.token, 'next_trace', item.trace }
  if item.large then
    redis.call('SET', keys.successor, item.payload)
    fields[#fields + 1] = 'next_large'
    fields[#fields + 1] = '1'
  else
    fields[#fields + 1] = 'next_payload'
    fields[#fields + 1] = item.payload
  end
  redis.call('HSET', keys.record, unpack(fields))
  return { 'created', generation, 'scheduled', when }
end

local function displace(keys, item, run, by_itself)
  redis.call('ZREM', KEYS[2], item.key)
  announce(item.key, run.generation, 'cancelled', run, now_text, '', '1')
  announce_dropped_successor(item.key, run)
  if run.state == 'running' and not by_itself then
    publish(ARGV[3], netstring(item.key) .. netstring(run.generation) .. netstring('replaced'))
  end
  redis.call('DEL', keys.record, keys.payload, keys.successor)
end

local function schedule(keys, item)
  local earlier
  if redis.call('HGET', keys.record, 'state') then
    local run = read(keys.record)
    if run.token == item.token then
      return { 'created', tonumber(run.generation), run.state, run.when }
    end
    local is_stale = item.generation ~= '' and tonumber(item.generation) <= tonumber(run.generation)
    if LIVE[run.state] then
      local own = run.state == 'running' and run.generation == item.own_generation and run.delivery == item.own_delivery
      if own and not item.replace then
        return succeed(keys, item, run)
      end
      if not item.replace then
        return { 'exists', tonumber(run.generation), run.state, run.when }
      end
      if is_stale then
        return { 'stale' }
      end
      refuse_if_elsewhere(KEYS[3]) -- before what it is to replace is gone
      displace(keys, item, run, own)
      earlier = remembered(run.generation, 'replaced', now_text)
    elseif is_stale then
      return { 'stale' }
    else
      earlier = remembered(run.generation, run.state, run.completed_at or '')
      redis.call('DEL', keys.record)
      if keys.payload then
        redis.call('DEL', keys.payload)
      end
    end
  end
  return create(keys, item, number_of(item), earlier)
end

local function main()
  local replies = {}
  local k = 4
  for a = 5, #ARGV, 12 do
    local item = {
      key = ARGV[a], fn = ARGV[a + 1], when = ARGV[a + 2], payload = ARGV[a + 3], trace = ARGV[a + 4], token = ARGV[a + 5],
      replace = ARGV[a + 6] == '1', large = ARGV[a + 8] == '1', generation = ARGV[a + 9], own_generation = ARGV[a + 10], own_delivery = ARGV[a + 11],
    }
    local keys = { stream = KEYS[1], queue = KEYS[2], record = KEYS[k] }
    k = k + 1
    if ARGV[a + 7] == '1' then
      keys.payload = KEYS[k]
      keys.successor = KEYS[k + 1]
      k = k + 2
    end
    replies[#replies + 1] = attempt(schedule, keys, item)
  end
  wake_movers(ARGV[4])
  return replies
end
