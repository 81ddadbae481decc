-- Looks after limits somebody waits for: places of holders that died lapse, and whoever waits is let in.
-- KEYS: stream, waiting limits, then per limit: holders, waiters, most
-- ARGV: now, state channels, then per limit its identity
-- Replies: 1. Events: none
--@include run
--@include limits

local function look(k, identity)
  local limit = { identity = identity, holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }
  if redis.call('ZCARD', limit.waiters) == 0 then -- evicted, or deleted by hand
    close_line(KEYS[2], limit)
    return 1
  end
  redis.call('ZADD', KEYS[2], now_text, identity)
  lapse(limit)
  let_in(KEYS[1], KEYS[2], limit, tonumber(redis.call('GET', limit.most) or '1'))
  return 1
end

local function main()
  -- Takes nothing away. A server out of memory refuses a script that starts by adding, and letting in is how it drains.
  redis.call('ZREM', KEYS[2], '')
  for a = 3, #ARGV do
    attempt(look, 3 * a - 6, ARGV[a])
  end
  return 1
end
