-- In process, messages go back with the reply and are handed on by the caller.
local published = {}
local function publish(channel, message)
  published[#published + 1] = channel
  published[#published + 1] = message
end

-- Tells of one key, on its state channel.
local function publish_of(key, message)
  publish(ARGV[2] .. key, message)
end

local publish_mark = publish

-- Readers look again when a script has published something: for entries that come without an event.
local function rouse_readers()
  publish('', '')
end
