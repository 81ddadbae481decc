-- Makes a run. Needs: run, wake.

-- Puts a run where it belongs by its due time ('' = now), and sees to it that movers learn of it.
-- Answers the state it is then in, and when it is due. The record is the caller's to write.
local function place(stream, queue, key, generation, when)
  if when == '' then
    when = now_text
  elseif not is_due(when) then
    note_due(queue, when)
  end
  return enqueue(stream, queue, key, generation, when), when
end

-- Under a key whose record and payload are gone. keys: stream, queue (not used where it is due now), record [, payload, where it is large];
-- new: key, fn, when ('' = now), payload, large, trace ('': none), token; earlier: what the record is to remember of the run before.
local function create(keys, new, generation, earlier)
  local state, when = place(keys.stream, keys.queue, new.key, generation, new.when)
  local fields = { 'state', state, 'generation', generation, 'function', new.fn, 'when', when, 'token', new.token }
  if new.large then
    redis.call('SET', keys.payload, new.payload)
    fields[#fields + 1] = 'large'
    fields[#fields + 1] = '1'
  else
    fields[#fields + 1] = 'payload'
    fields[#fields + 1] = new.payload
  end
  if new.trace ~= '' then
    fields[#fields + 1] = 'trace'
    fields[#fields + 1] = new.trace
  end
  if earlier then
    fields[#fields + 1] = 'earlier'
    fields[#fields + 1] = earlier
  end
  redis.call('HSET', keys.record, unpack(fields))
  announce(new.key, generation, state, { when = when })
  return { 'created', generation, state, when }
end
