-- Keeps a worker instance's lease, or starts it, and tells it what became of the runs it holds.
-- KEYS: leases, then per run its record
-- ARGV: now, state channels, instance, lease_us, first ('1' starts a lease), then per run: generation, delivery
-- Replies: {'lost'} when a reclaimer has taken the lease away, else {'kept', then per run: 'held' | 'cancelled' | 'replaced'}
--       A run whose record cannot be read counts as replaced.
-- Events: none
--@include run

local function look(record, generation, delivery)
  if redis.call('HGET', record, 'generation') ~= generation or redis.call('HGET', record, 'delivery') ~= delivery then
    return 'replaced'
  end
  return redis.call('HGET', record, 'cancel') and 'cancelled' or 'held'
end

local function main()
  local score = redis.call('ZSCORE', KEYS[1], ARGV[3])
  if ARGV[5] ~= '1' and (not score or tonumber(score) <= 0) then
    return { 'lost' }
  end
  local replies = { 'kept' }
  local a = 6
  for i = 2, #KEYS do
    local word = attempt(look, KEYS[i], ARGV[a], ARGV[a + 1])
    replies[i] = type(word) == 'string' and word or 'replaced'
    a = a + 2
  end
  -- Takes nobody away. A server out of memory refuses a script that starts by adding, and a live worker must not seem dead for that.
  redis.call('ZREM', KEYS[1], '')
  redis.call('ZADD', KEYS[1], string.format('%.0f', lease_now + tonumber(ARGV[4])), ARGV[3])
  return replies
end
