-- Takes fetched entries for one worker: the run becomes running, its delivery number rises.
-- KEYS: stream, waiting limits, meta, then per item its record and its payload, and with a limit its holders, waiters and most
-- ARGV: now, state channels, group, instance, then per item: message id, key, generation, identity of the limit that let it in ('': none)
-- Replies: version of all that is struck, or '0', and then per item: {'claimed', delivery, function, payload, large, when, started_at, attempt, crashes, trace, origin} | {'refused', why} | {'error', message}
--       origin: of a run that is tried again, when it was first due and first started; else ''
-- A refused entry is acknowledged away, and a place kept for it goes to the next: cancelled, replaced, already run, or gone; so is one whose record cannot be read at all.
-- An entry that came twice is refused while the run is under way: the place is that run's.
-- Events: state (running). A repeat (same worker, same message) answers as the first time did.
--@include run
--@include limits

local function claim(record, payload_key, id, key, generation)
  local state, found, fn, when, payload, large, delivery, attempts, crashes, trace, worker, message, started_at, origin = unpack(pick(record,
    'state', 'generation', 'function', 'when', 'payload', 'large', 'delivery', 'attempt', 'crashes', 'trace', 'worker', 'message', 'started_at', 'origin'))
  local instance = ARGV[4]
  if found == generation and state == 'queued' then
    delivery = (tonumber(delivery) or 0) + 1
    started_at = now_text
    redis.call('HSET', record, 'state', 'running', 'delivery', delivery, 'worker', instance, 'started_at', now_text, 'message', id)
    tell(key, generation, 'running', when, instance, now_text, '', '', '')
  elseif found ~= generation or state ~= 'running' or worker ~= instance or message ~= id then
    redis.call('XACK', KEYS[1], ARGV[3], id)
    redis.call('XDEL', KEYS[1], id)
    return { 'refused', (not state and 'gone') or (found ~= generation and 'replaced') or state }
  end
  if large then
    payload = redis.call('GET', payload_key)
  end
  return { 'claimed', tonumber(delivery), fn or '', payload or '', large or '', when, started_at, attempts or '1', crashes or '0', trace or '', origin or '' }
end

local function main()
  local replies = { redis.call('HGET', KEYS[3], 'strikes') or '0' }
  local k = 4
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
      if reply[1] ~= 'claimed' and reply[2] ~= 'running' then
        attempt(leave, KEYS[1], KEYS[2], { identity = ARGV[a + 3], holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }, ARGV[a + 2])
      end
      k = k + 3
    end
    replies[#replies + 1] = reply
  end
  return replies
end
