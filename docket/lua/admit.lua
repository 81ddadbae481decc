-- Lets claimed runs pass their limits, or parks them: one item a run, with all its limits. A run passes all of them or takes a place in none.
-- KEYS: stream, queue, meta, waiting limits, then per item its record, and per limit: (concurrency) holders, waiters, most;
--       (rate) starts, promises; (others) one key
-- ARGV: now, state channels, group, wake channel, then per item: message id, key, generation, delivery, lease_us, how many limits,
--       and per limit: kind (concurrency | rate | cooldown | debounce), identity, a, b, c
--       concurrency: a = most at once; rate: a = runs, b = per us, c = '1' to drop; cooldown: a = window us; debounce: a = quiet us
-- Replies, per item: {'admitted'} | {'parked'} | {'later', when} | {'dropped', kind} | {'cancelled'} | {'superseded'} | {'error', message}
--       A dropped or cancelled run is still claimed: settling it is the caller's. A parked or later one is not: its entry is acknowledged, its state is queued.
-- Events: state (queued), wake. A repeat after a lost reply is admitted again, and finds a run that was set aside no longer its own: superseded.
--@include run
--@include wake
--@include limits
--@include gates

-- Takes a run off its worker, to come back by itself or when it is let in.
local function set_aside(item, run, verdict)
  redis.call('XACK', KEYS[1], ARGV[3], item.id)
  redis.call('XDEL', KEYS[1], item.id)
  redis.call('HDEL', item.record, unpack(OF_A_CLAIM))
  redis.call('HSET', item.record, 'state', 'queued')
  remember_aside(item, run, verdict)
  if verdict[1] == 'parked' then
    redis.call('HSET', item.record, 'parked', verdict.limit.identity)
  else
    redis.call('HSET', item.record, 'aside', '1')
    note_due(KEYS[2], verdict[2])
    redis.call('ZADD', KEYS[2], verdict[2], item.key)
  end
  announce(item.key, run.generation, 'queued', { when = run.when }, '', run.error)
end

local function admit(item)
  local state, generation, delivery, when, cancel, quiet, first, error =
    unpack(pick(item.record, 'state', 'generation', 'delivery', 'when', 'cancel', 'quiet', 'first', 'error'))
  if state ~= 'running' or generation ~= item.generation or delivery ~= item.delivery then
    return { 'superseded' }
  end
  local run = { record = item.record, generation = generation, delivery = delivery, when = when, lease = item.lease, quiet = quiet, first = first, error = error,
    holder = generation, formers = {} }
  if cancel then
    give_up_places(item, run)
    return { 'cancelled' }
  end
  local verdict = blocked(item, run)
  if verdict then
    if verdict[1] ~= 'dropped' then
      set_aside(item, run, verdict)
    end
    return { verdict[1], verdict[2] }
  end
  pass(item, run)
  return { 'admitted' }
end

local function main()
  local replies = {}
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and draining is what it needs.
  redis.call('XDEL', KEYS[1], '0-0')
  local k, a = 5, 5
  while ARGV[a] do
    local item = { record = KEYS[k], id = ARGV[a], key = ARGV[a + 1], generation = ARGV[a + 2], delivery = ARGV[a + 3], lease = tonumber(ARGV[a + 4]), gates = {} }
    local count = tonumber(ARGV[a + 5])
    k = k + 1 + read_gates(item, count, k + 1, a + 6)
    a = a + 6 + 5 * count
    replies[#replies + 1] = attempt(admit, item)
  end
  wake_movers(ARGV[4])
  return replies
end
