-- Some fields of a hash, in order; false for one it does not have.
local function pick(record, ...)
  return redis.call('HMGET', record, ...)
end
