-- Some fields of a hash, in order; false for one it does not have.
local function pick(record, ...)
  return redis.call('HMGET', record, ...)
end

-- How many fields a hash has.
local function size(hash)
  return redis.call('HLEN', hash)
end

-- How long a text is.
local function length(key)
  return redis.call('STRLEN', key)
end
