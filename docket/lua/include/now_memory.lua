-- The in-process engine has no TIME: the caller's clock, which is the only one there is.
local now = tonumber(ARGV[1])
local now_text = ARGV[1]
