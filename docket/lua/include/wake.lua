-- Wakes the movers when something is due earlier than anything they know of. Needs: publish.
local earliest_before = nil
local earliest_after = nil

local function note_due(queue, when)
  if not earliest_after then
    local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
    earliest_before = tonumber(head[2])
  end
  local due = tonumber(when)
  if not earliest_after or due < earliest_after then
    earliest_after = due
  end
end

local function wake_movers(channel)
  if earliest_after and (not earliest_before or earliest_after < earliest_before) then
    publish(channel, string.format('%.0f', earliest_after))
  end
end
