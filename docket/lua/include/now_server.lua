-- The server's own clock, so that a worker's wrong one does no harm. Microseconds; numbers of this size lose digits in tostring.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_text = string.format('%.0f', now)
local lease_now = now
