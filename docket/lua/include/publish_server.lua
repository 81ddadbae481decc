local function publish(channel, message)
  redis.call('PUBLISH', channel, message)
end

-- An entry rouses whoever waits for it.
local function rouse_readers() end
