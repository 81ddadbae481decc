-- The in-process engine gives no entry from one to another; nor can anybody delete its group, which is what this is for.
local function entrust(stream, group, instance, id)
end

-- Nor is it ever full.
local function begin(stream, group)
end

-- It keeps the names of its consumers, which weigh nothing.
local function forget(stream, group, instance)
  return false
end
