-- Moves what is due from the future to the stream. The caller lists candidates; this looks again, by its own clock.
-- KEYS: stream, queue, then per candidate its record
-- ARGV: now, state channels, then the candidates' keys
-- Replies: {moved, microseconds until the next is due (negative: overdue) or '' when none is scheduled, now}
-- Events: state (queued)
--@include run

local function move(record, key)
  local due = redis.call('ZSCORE', KEYS[2], key)
  if not due or tonumber(due) > now then
    return 0
  end
  local run = read(record)
  redis.call('ZREM', KEYS[2], key)
  if run.state ~= 'scheduled' and not (run.state == 'queued' and run.aside) then -- aside: a limit told it to come back now
    return 0
  end
  redis.call('XADD', KEYS[1], '*', 'key', key, 'generation', run.generation)
  redis.call('HSET', record, 'state', 'queued')
  if run.aside then -- it was queued all the time
    redis.call('HDEL', record, 'aside')
    rouse_readers()
  else
    announce(key, run.generation, 'queued', run, '', run.error)
  end
  return 1
end

local function main()
  local moved = 0
  for i = 3, #KEYS do
    local count = attempt(move, KEYS[i], ARGV[i])
    if type(count) == 'number' then
      moved = moved + count
    else
      redis.call('ZREM', KEYS[2], ARGV[i])
    end
  end
  local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  local wait = ''
  if head[2] and string.match(head[2], '^%-?%d') then -- `inf` is due at no moment
    wait = string.format('%.0f', tonumber(head[2]) - now)
  end
  return { moved, wait, now_text }
end
