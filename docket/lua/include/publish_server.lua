local function publish(channel, message)
  redis.call('PUBLISH', channel, message)
end

-- Tells of one key, on its state channel.
local function publish_of(key, message)
  redis.call('PUBLISH', ARGV[2] .. key, message)
end

local publish_mark = publish

-- An entry rouses whoever waits for it.
local function rouse_readers() end
