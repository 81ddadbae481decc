-- Throws dead letters away.
-- KEYS: dead letters, then per letter its hash
-- ARGV: now, state channels, then the letters' generations
-- Replies: how many there were. Events: none. A repeat finds none.
local function main()
  local gone = 0
  for i = 2, #KEYS do
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[i + 1])
    redis.call('DEL', KEYS[i])
  end
  return gone
end
