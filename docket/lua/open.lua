-- Opens a docket: writes the layout's version, and how many shards there are, where there is none yet and whoever opens it says how many.
-- Who says nothing writes nothing: until something is scheduled there, the next one may still say.
-- KEYS: meta
-- ARGV: now, state channels, layout, shards ('': as many as there are), channels ('sharded' where several shards can have channels of their own)
-- Replies: {the layout that stands or would be begun, how many shards there are, how many there are to be ('': the docket is not being moved),
--       'sharded' where they have channels of their own, else ''}. Events: none
local function main()
  local layout, shards = redis.call('HGET', KEYS[1], 'layout'), redis.call('HGET', KEYS[1], 'shards')
  if not layout then
    layout = ARGV[3]
    if ARGV[4] ~= '' then
      redis.call('HSET', KEYS[1], 'layout', layout)
    end
    if (tonumber(ARGV[4]) or 1) > 1 then
      shards = ARGV[4]
      redis.call('HSET', KEYS[1], 'shards', shards, 'channels', ARGV[5])
    end
  end
  return { layout, shards or '1', redis.call('HGET', KEYS[1], 'moving') or '', redis.call('HGET', KEYS[1], 'channels') or '' }
end
