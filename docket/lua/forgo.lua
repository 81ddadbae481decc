-- Gives up, in the limits' shard, what runs of other shards have there: a place, a turn in line, or a start that did not come to be. One item a run and limit.
-- KEYS: stream, waiting limits, then per item the keys that `admit` takes
-- ARGV: now, state channels, then per item: key, generation, delivery ('0': of whichever, a turn in line or a place that was kept for it), kind (concurrency | rate |
--       cooldown | debounce), identity
-- Replies, per item: {'given up'} | {'error', message}. Events: none. A repeat finds nothing left to give up.
--@include run
--@include limits

local function forgo(kind, k, identity, key, generation, delivery)
  if kind == 'concurrency' then
    local limit = { identity = identity, holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }
    local place = generation .. '.' .. delivery
    if delivery == '0' then
      step_out(KEYS[1], KEYS[2], limit, generation, key)
    else -- a claim that ended before it came to ask gives up what was kept for it
      leave(KEYS[1], KEYS[2], limit, redis.call('ZSCORE', limit.holders, place) and place or generation)
    end
  elseif kind == 'rate' then
    redis.call('ZREM', KEYS[k], generation .. '.' .. delivery)
    redis.call('ZREM', KEYS[k + 1], generation)
  elseif kind == 'cooldown' and redis.call('HGET', KEYS[k], 'by') == generation then
    redis.call('DEL', KEYS[k])
  end
  return { 'given up' }
end

local WIDTH = { concurrency = 3, rate = 2 }

local function main()
  local replies = {}
  -- Deletes nothing. A server out of memory refuses a script that starts by adding, and letting in is how it drains.
  redis.call('XDEL', KEYS[1], '0-0')
  local k = 3
  for a = 3, #ARGV, 5 do
    replies[#replies + 1] = attempt(forgo, ARGV[a + 3], k, ARGV[a + 4], ARGV[a], ARGV[a + 1], ARGV[a + 2])
    k = k + (WIDTH[ARGV[a + 3]] or 1)
  end
  return replies
end
