-- Opens a docket: writes the layout's version where there is none yet.
-- KEYS: meta
-- ARGV: now, state channels, layout
-- Replies: the layout that stands. Events: none
local function main()
  local layout = redis.call('HGET', KEYS[1], 'layout')
  if not layout then
    redis.call('HSET', KEYS[1], 'layout', ARGV[3])
    return ARGV[3]
  end
  return layout
end
