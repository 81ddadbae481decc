-- Cancels what lives under a key: prevents a run that has not begun, tells a running one to stop, ends a chain.
-- KEYS: queue, record, payload, successor's payload
-- ARGV: now, state channels, cancel channel, ttl_ms, key
-- Replies: {state it was in, generation} | {'none', 0}
-- Events: state (cancelled), cancel. A repeat finds nothing live, or a run already told.
--@include run
--@include finish

local function main()
  local keys = { record = KEYS[2], payload = KEYS[3], successor = KEYS[4] }
  local key = ARGV[5]
  local run = read(keys.record)
  if not LIVE[run.state] then
    return { 'none', 0 }
  end
  -- First, whether or not it is in there: a server out of memory refuses a script that starts by writing a hash.
  redis.call('ZREM', KEYS[1], key)
  drop_successor(keys, key, run)
  if run.state == 'running' then
    redis.call('HSET', keys.record, 'cancel', '1')
    publish(ARGV[3], netstring(key) .. netstring(run.generation) .. netstring('cancelled'))
  else
    finish(keys, key, run, 'cancelled', ARGV[4], '', false, '')
  end
  return { run.state, tonumber(run.generation) }
end
