-- The in-process engine has no TIME: the caller's clock, which is the only one there is.
-- One that a test moves tells two times: leases, heartbeats and places go by the second, so that none of them lapses in a jump.
local now_text, lease_now = ARGV[1], nil
local gap = string.find(now_text, ' ', 1, true)
if gap then
  lease_now = tonumber(string.sub(now_text, gap + 1))
  now_text = string.sub(now_text, 1, gap - 1)
end
local now = tonumber(now_text)
lease_now = lease_now or now
