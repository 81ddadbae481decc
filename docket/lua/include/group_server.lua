-- Gives an entry that was fetched to another of the group, as though that one had fetched it.
local function entrust(stream, group, instance, id)
  redis.call('XCLAIM', stream, group, instance, 0, id, 'JUSTID')
end

-- Makes the group, from the start of the stream on, unless it is there.
local function begin(stream, group)
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0')
  if type(made) == 'table' and made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    error(made)
  end
end

-- Takes an instance that holds nothing off the group; answers whether it does.
local function forget(stream, group, instance)
  if redis.call('XPENDING', stream, group, '-', '+', 1, instance)[1] then
    return false
  end
  redis.call('XGROUP', 'DELCONSUMER', stream, group, instance)
  return true
end
