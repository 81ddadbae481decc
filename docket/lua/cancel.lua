-- Cancels what lives under a key: prevents a run that has not begun, tells a running one to stop, ends a chain.
-- With a generation, it cancels that very run, also where it is the successor that a run asked for; on another run it does nothing.
-- KEYS: queue, record, payload, successor's payload, meta, outcome of the generation, and with a limit the stream, the waiting limits, its holders, waiters and most
-- ARGV: now, state channels, cancel channel, ttl_ms, key, generation ('': whichever), identity of the limit in whose line it stands ('': none that the caller knows of)
-- Replies: {state it was in, generation} | {'none', 0} | {'line', identity}: nothing was done, ask again with the keys of that limit
-- Counts, in meta: cancelled, of what had not begun.
-- Events: state (cancelled), cancel. A repeat finds nothing live, or a run already told.
--@include run
--@include finish
--@include limits

-- One who waits for a successor's end is to hear that it was cancelled, and to read it.
local function cancel_successor(keys, key, run)
  redis.call('HDEL', keys.record, unpack(SUCCESSOR))
  redis.call('DEL', keys.successor)
  if ARGV[4] ~= '0' then
    redis.call('SET', keys.outcome, 'x0:,', 'PX', ARGV[4])
  end
  redis.call('HINCRBY', KEYS[5], 'cancelled', 1)
  announce(key, run.next_generation, 'cancelled', { when = run.next_when }, now_text, '', '3')
end

local function main()
  local keys = { record = KEYS[2], payload = KEYS[3], successor = KEYS[4], outcome = KEYS[6] }
  local key = ARGV[5]
  local run = read(keys.record)
  if run.next_generation and run.next_generation == ARGV[6] then
    cancel_successor(keys, key, run)
    return { 'scheduled', tonumber(ARGV[6]) }
  end
  if not LIVE[run.state] or (ARGV[6] ~= '' and run.generation ~= ARGV[6]) then
    return { 'none', 0 }
  end
  if run.state == 'queued' and run.parked and run.parked ~= ARGV[7] then
    return { 'line', run.parked }
  end
  -- First, whether or not it is in there: a server out of memory refuses a script that starts by writing a hash.
  redis.call('ZREM', KEYS[1], key)
  drop_successor(keys, key, run)
  if run.state == 'running' then
    redis.call('HSET', keys.record, 'cancel', '1')
    publish(ARGV[3], netstring(key) .. netstring(run.generation) .. netstring('cancelled'))
  else
    finish(keys, key, run, 'cancelled', ARGV[4], '', false, '')
    redis.call('HINCRBY', KEYS[5], 'cancelled', 1)
    if run.parked and ARGV[7] ~= '' then
      step_out(KEYS[7], KEYS[8], { identity = ARGV[7], holders = KEYS[9], waiters = KEYS[10], most = KEYS[11] }, run.generation, key)
    end
  end
  return { run.state, tonumber(run.generation) }
end
