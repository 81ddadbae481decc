-- For a docket whose shards have channels of their own: in a cluster, what goes by these stays with the primary of the shard and its replicas.
local function publish(channel, message)
  redis.call('PUBLISH', channel, message)
end

-- Tells of one key, on its state channel, and on the one with no key behind it, which is for whoever listens to all: such channels have no patterns.
local function publish_of(key, message)
  redis.call('SPUBLISH', ARGV[2] .. key, message)
  redis.call('SPUBLISH', ARGV[2], message)
end

-- Marks go by the same connection as what they mark.
local function publish_mark(channel, mark)
  redis.call('SPUBLISH', channel, mark)
end

-- An entry rouses whoever waits for it.
local function rouse_readers() end
