-- Takes a run off its worker, as a limit in another shard has said: it comes back when it is due, or when that limit lets it in.
-- KEYS: stream, queue, record, runs that are away
-- ARGV: now, state channels, group, wake channel, message id, key, generation, delivery, word (parked | later | admitted), detail (identity | when | ''), marks
-- Replies: {'aside'}, or {'admitted'}: only the marks are written | {'superseded'} | {'cancelled'}: it is still claimed
-- Events: state (queued), wake. A repeat is answered as the first time.
--@include run
--@include wake

local function main()
  local record, key, word, detail = KEYS[3], ARGV[6], ARGV[9], ARGV[10]
  local state, generation, delivery, when, cancel, parked, entered, aside, error =
    unpack(pick(record, 'state', 'generation', 'delivery', 'when', 'cancel', 'parked', 'entered', 'aside', 'error'))
  if generation ~= ARGV[7] or delivery ~= ARGV[8] then
    return { 'superseded' }
  end
  if state == 'queued' and ((word == 'parked' and (parked == detail or entered == detail)) or (word == 'later' and aside)) then
    return { 'aside' }
  end
  if state ~= 'running' then
    return { 'superseded' }
  end
  if cancel then
    return { 'cancelled' }
  end
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and draining is what it needs.
  redis.call('XDEL', KEYS[1], '0-0')
  for field in string.gmatch(ARGV[11], '%a+') do
    redis.call('HSET', record, field, '1')
  end
  if word == 'admitted' then
    return { 'admitted' }
  end
  redis.call('XACK', KEYS[1], ARGV[3], ARGV[5])
  redis.call('XDEL', KEYS[1], ARGV[5])
  redis.call('HDEL', record, 'entered', unpack(OF_A_CLAIM))
  redis.call('HSET', record, 'state', 'queued')
  if word == 'parked' then
    redis.call('HSET', record, 'parked', detail)
    redis.call('ZADD', KEYS[4], now_text, key)
  else
    redis.call('HSET', record, 'aside', '1')
    note_due(KEYS[2], detail)
    redis.call('ZADD', KEYS[2], detail, key)
  end
  announce(key, generation, 'queued', { when = when }, '', error)
  wake_movers(ARGV[4])
  return { 'aside' }
end
