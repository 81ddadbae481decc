-- Cancels work that has not begun: runs found in the schedule, in the stream and in the lines before limits.
-- KEYS: stream, queue, meta, waiting limits, then per item its record and its payload, and with a limit its holders, waiters and most
-- ARGV: now, state channels, ttl_ms, token, the newest generation that is meant, then per item: key, generation ('': whichever, found in the schedule),
--       id of its entry where no worker has fetched that ('': leave it to be refused), identity of the limit whose line it stands in or whose place is kept for it ('': none)
-- Replies: {how many were cancelled, then per item: 'cleared' | 'left' | {'error', message}}
-- Events: state (cancelled). A repeat (same token) tells how many were cancelled the first time, and nothing of the items.
-- What runs is left alone, its chain and its successor too; so is what was scheduled after the clearing began.
-- An entry that a worker fetches in this very moment may be deleted under its hands: its claim is refused, as of any cancelled run.
--@include run
--@include finish
--@include limits

local cleared = 0

local function clear(keys, item)
  local run = read(keys.record)
  local is_own = run.generation and (item.generation == '' or item.generation == run.generation)
  if (is_own and run.state == 'running') or (item.generation == '' and run.generation and tonumber(run.generation) > tonumber(ARGV[5])) then
    return 'left'
  end
  local is_cancelled = is_own and LIVE[run.state]
  if is_cancelled then
    finish(keys, item.key, run, 'cancelled', ARGV[3], '', false, '')
    cleared = cleared + 1
  end
  -- Whatever led here leads nowhere any more.
  if item.id ~= '' then
    redis.call('XDEL', KEYS[1], item.id)
  end
  if item.limit then
    step_out(KEYS[1], KEYS[4], item.limit, item.generation, item.key)
  end
  if is_own or item.generation == '' then
    redis.call('ZREM', KEYS[2], item.key)
  end
  return is_cancelled and 'cleared' or 'left'
end

local function main()
  local token, before = string.match(redis.call('HGET', KEYS[3], 'cleared') or '', '^(%d+) (%d+)$')
  if token == ARGV[4] then
    return { tonumber(before) }
  end
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and clearing is how it is relieved.
  redis.call('XDEL', KEYS[1], '0-0')
  local replies = { 0 }
  local k = 5
  for a = 6, #ARGV, 4 do
    local keys = { record = KEYS[k], payload = KEYS[k + 1] }
    local item = { key = ARGV[a], generation = ARGV[a + 1], id = ARGV[a + 2] }
    k = k + 2
    if ARGV[a + 3] ~= '' then
      item.limit = { identity = ARGV[a + 3], holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }
      k = k + 3
    end
    replies[#replies + 1] = attempt(clear, keys, item)
  end
  redis.call('HSET', KEYS[3], 'cleared', ARGV[4] .. ' ' .. cleared)
  if cleared > 0 then
    redis.call('HINCRBY', KEYS[3], 'cancelled', cleared)
  end
  replies[1] = cleared
  return replies
end
