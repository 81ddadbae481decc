-- Takes entries back from an instance whose lease has lapsed, or (own) gives back what an instance fetched and does not run.
-- KEYS: stream, leases, queue, meta, then per entry its record, payload and successor's payload
-- ARGV: now, state channels, group, instance, own ('1'), ttl_ms, then per entry: message id, key, generation, identity of the limit that let it in ('': none)
-- Replies: {'alive'} when the lease has not lapsed | {'taken', entries that will run again}
--       with no entries and not own, the instance holds nothing any more and its lease is removed.
-- From the first call on the instance can no longer renew: its lease stands at zero.
-- Events: state (queued, or cancelled where a cancelled run's worker died)
--@include run
--@include finish

local function take_back(keys, id, key, generation, limit)
  redis.call('XACK', KEYS[1], ARGV[3], id)
  redis.call('XDEL', KEYS[1], id)
  local run = read(keys.record)
  if run.generation ~= generation then
    return 0
  end
  local was_running = run.state == 'running' and run.worker == ARGV[4] and run.message == id
  if was_running then
    drop_successor(keys, key, run)
    if run.cancel then
      finish(keys, key, run, 'cancelled', ARGV[6], '', false, '')
      redis.call('HINCRBY', KEYS[4], 'cancelled', 1)
      return 0
    end
    redis.call('HDEL', keys.record, unpack(OF_A_CLAIM))
    redis.call('HSET', keys.record, 'state', 'queued', 'delivery', tostring(tonumber(run.delivery) + 1))
    if ARGV[5] ~= '1' then
      redis.call('HINCRBY', keys.record, 'crashes', 1)
      if run.alone then -- nothing else ran there
        redis.call('HINCRBY', keys.record, 'blamed', 1)
      end
    end
  elseif run.state ~= 'queued' then
    return 0
  end
  if limit ~= '' then
    redis.call('XADD', KEYS[1], '*', 'key', key, 'generation', generation, 'limit', limit)
  else
    redis.call('XADD', KEYS[1], '*', 'key', key, 'generation', generation)
  end
  if was_running then
    announce(key, generation, 'queued', { when = run.when }, '', run.error)
  else
    rouse_readers()
  end
  return 1
end

local function main()
  if ARGV[5] ~= '1' then
    local score = redis.call('ZSCORE', KEYS[2], ARGV[4])
    if score and tonumber(score) > lease_now then
      return { 'alive' }
    end
    -- Away first: a server out of memory refuses a script that starts by adding, and draining is what it needs.
    redis.call('ZREM', KEYS[2], ARGV[4])
    if #KEYS > 4 then
      redis.call('ZADD', KEYS[2], 0, ARGV[4])
    end
  end
  local taken = 0
  local k = 5
  for a = 7, #ARGV, 4 do
    local count = attempt(take_back, { record = KEYS[k], payload = KEYS[k + 1], successor = KEYS[k + 2] }, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
    if type(count) == 'number' then
      taken = taken + count
    end
    if count ~= 1 and ARGV[a + 3] ~= '' then -- nobody's by now: refusing the entry gives up the place that was kept for it
      redis.call('XADD', KEYS[1], '*', 'key', ARGV[a + 1], 'generation', ARGV[a + 2], 'limit', ARGV[a + 3])
      rouse_readers()
    end
    k = k + 3
  end
  return { 'taken', taken }
end
