-- Some fields of a hash, in order; false for one it does not have. The in-process engine has no HMGET.
local function pick(record, ...)
  local flat = redis.call('HGETALL', record)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  local values = { ... }
  for i, name in ipairs(values) do
    values[i] = fields[name] or false
  end
  return values
end

-- How many fields a hash has. The in-process engine has no HLEN.
local function size(hash)
  return #redis.call('HGETALL', hash) / 2
end

-- How long a text is. The in-process engine has no STRLEN.
local function length(key)
  return #(redis.call('GET', key) or '')
end
