-- A concurrency limit: who holds a place and until when, who waits in which order.
-- holders: sorted set of generations by the moment their place lapses; waiters: sorted set of 'generation|key' by order of arrival;
-- most: how many may hold a place, kept for those who do not know; waiting: sorted set of limits somebody waits for, by when they were last looked at.
local RESERVED_US = 600 * 1000000 -- a place kept for a run that was woken and is not yet claimed
local FORGET_MS = 24 * 3600 * 1000

local function close_line(waiting, limit)
  redis.call('ZREM', waiting, limit.identity)
  redis.call('DEL', limit.most, limit.waiters) -- in process, what is empty would stay
end

-- Frees the places of those who died. After an outage of the server those of the living look lapsed as well, so only `sweep` may do this,
-- which is not called before they had time to renew. Meanwhile a lapsed place is taken, and whoever comes waits for the sweep.
local function lapse(limit)
  redis.call('ZREMRANGEBYSCORE', limit.holders, '-inf', string.format('(%.0f', lease_now))
end

local function let_in(stream, waiting, limit, most)
  local free = most - redis.call('ZCARD', limit.holders)
  local left = redis.call('ZCARD', limit.waiters)
  if left == 0 then
    return free
  end
  if free > 0 then
    for _, member in ipairs(redis.call('ZRANGE', limit.waiters, 0, free - 1)) do
      local generation, key = string.match(member, '^(%d+)|(.*)$')
      redis.call('ZREM', limit.waiters, member)
      redis.call('ZADD', limit.holders, string.format('%.0f', lease_now + RESERVED_US), generation)
      redis.call('PEXPIRE', limit.holders, FORGET_MS)
      redis.call('XADD', stream, '*', 'key', key, 'generation', generation, 'limit', limit.identity)
      rouse_readers()
      free = free - 1
      left = left - 1
    end
  end
  if left == 0 then
    close_line(waiting, limit)
  end
  return free
end

-- Gives a place up, and lets in whoever waits for it.
local function leave(stream, waiting, limit, generation)
  redis.call('ZREM', limit.holders, generation)
  local most = redis.call('GET', limit.most)
  if most then
    let_in(stream, waiting, limit, tonumber(most))
  end
end

-- Takes a run that has not begun out of the line; or gives up the place that is kept for it, if its turn had come.
local function step_out(stream, waiting, limit, generation, key)
  if redis.call('ZREM', limit.waiters, generation .. '|' .. key) == 0 then
    leave(stream, waiting, limit, generation)
  elseif redis.call('ZCARD', limit.waiters) == 0 then
    close_line(waiting, limit)
  end
end
