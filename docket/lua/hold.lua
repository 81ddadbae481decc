-- Keeps the places that running tasks hold under their limits.
-- KEYS: per run the holders of its limit
-- ARGV: now, state channels, lease_us, then per run the name under which it holds its place
-- Replies: 1. Events: none. A place that is gone stays gone.
--@include run
--@include limits

local function keep(holders, holder)
  if redis.call('ZSCORE', holders, holder) then
    redis.call('ZADD', holders, string.format('%.0f', lease_now + tonumber(ARGV[3])), holder)
    redis.call('PEXPIRE', holders, FORGET_MS)
  end
end

local function main()
  -- Takes nobody away. A server out of memory refuses a script that starts by adding, and a live worker must not lose its places for that.
  attempt(redis.call, 'ZREM', KEYS[1], '')
  for i = 1, #KEYS do
    attempt(keep, KEYS[i], ARGV[i + 3])
  end
  return 1
end
