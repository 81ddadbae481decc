-- Takes fetched entries for one worker: the run becomes running, its delivery number rises.
-- KEYS: stream, waiting limits, meta, leases, then per item its record and its payload, and with a limit its holders, waiters and most
-- ARGV: now, state channels, group, instance, then per item: message id, key, generation, identity of the limit that let it in ('': none)
-- Replies: version of all that is struck, or '0', and then per item: {'claimed', delivery, function, payload, large, when, started_at, trace}, of a run that has a past with {..., attempt, crashes, origin, blamed, unknown since} | {'refused', why} | {'error', message}
--       blamed: how many workers died while they ran this and nothing else
--       origin: of a run that is tried again, when it was first due and first started; else ''
-- A refused entry is acknowledged away, and a place kept for it goes to the next: cancelled, replaced, already run, or gone; so is one whose record cannot be read at all.
-- An entry that came to another worker than the one that runs it (its consumer group was made again) is given to that one.
-- One that was taken back, because this worker was away for longer than its lease, is refused and left alone: the run waits under another entry by now,
-- and so does the place that is kept for it.
-- An entry that came twice is refused while the run is under way: the place is that run's.
-- Events: state (running). A repeat (same worker, same message) answers as the first time did.
--@include run
--@include limits

-- The next delivery number, whatever somebody made of the last one.
local function following(delivery)
  local last = tonumber(delivery) or 0
  return (last >= 0 and last < 2^53 and math.floor(last) or 0) + 1
end

-- Whoever takes entries back takes the lease away first. So only a worker without one has to ask whether an entry is still there, which costs a quarter of a claim.
local is_leased

local function claim(record, payload_key, id, key, generation)
  local state, found, fn, when, payload, large, delivery, attempts, crashes, trace, worker, message, started_at, origin, blamed, unknown_since = unpack(pick(record,
    'state', 'generation', 'function', 'when', 'payload', 'large', 'delivery', 'attempt', 'crashes', 'trace', 'worker', 'message', 'started_at', 'origin', 'blamed', 'unknown_since'))
  local instance = ARGV[4]
  if found == generation and state == 'queued' then
    if not is_leased and not redis.call('XRANGE', KEYS[1], id, id)[1] then
      return { 'refused', 'taken back' }
    end
    delivery = following(delivery)
    when = when or now_text
    started_at = now_text
    redis.call('HSET', record, 'state', 'running', 'delivery', delivery, 'worker', instance, 'started_at', now_text, 'message', id)
    tell(key, generation, 'running', when, instance, now_text, '', '', '')
  elseif found == generation and state == 'running' and worker ~= instance and message == id then
    -- The consumer group was made again, so what is under way is fetched once more: it goes back to whoever runs it, and can be taken over if they die.
    entrust(KEYS[1], ARGV[3], worker, id)
    return { 'refused', state }
  elseif found ~= generation or state ~= 'running' or worker ~= instance or message ~= id then
    redis.call('XACK', KEYS[1], ARGV[3], id)
    redis.call('XDEL', KEYS[1], id)
    return { 'refused', (not state and 'gone') or (found ~= generation and 'replaced') or state }
  end
  if large then
    payload = large_payload(payload_key)
    large = '1'
  end
  local reply = { 'claimed', tonumber(delivery), fn or '', payload or '', large or '', when, started_at, trace or '' }
  if attempts or crashes or origin or blamed or unknown_since then
    for i, value in ipairs({ attempts or '1', crashes or '0', origin or '', blamed or '0', unknown_since or '' }) do
      reply[8 + i] = value
    end
  end
  return reply
end

local function main()
  local replies = { redis.call('HGET', KEYS[3], 'strikes') or '0' }
  local k = 5
  is_leased = (tonumber(redis.call('ZSCORE', KEYS[4], ARGV[4]) or 0) or 0) > 0
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and draining is what it needs.
  redis.call('XDEL', KEYS[1], '0-0')
  for a = 5, #ARGV, 4 do
    local reply = attempt(claim, KEYS[k], KEYS[k + 1], ARGV[a], ARGV[a + 1], ARGV[a + 2])
    if reply[1] == 'error' then
      redis.call('XACK', KEYS[1], ARGV[3], ARGV[a])
      redis.call('XDEL', KEYS[1], ARGV[a])
    end
    k = k + 2
    if ARGV[a + 3] ~= '' then
      if reply[1] ~= 'claimed' and reply[2] ~= 'running' and reply[2] ~= 'taken back' then
        attempt(leave, KEYS[1], KEYS[2], { identity = ARGV[a + 3], holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }, ARGV[a + 2])
      end
      k = k + 3
    end
    replies[#replies + 1] = reply
  end
  return replies
end
