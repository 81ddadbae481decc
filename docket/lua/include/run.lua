-- The record of a task, and the events that tell of its transitions. Needs: now, publish.
-- Every script passes ARGV[2]: the prefix of the state channels.
local LIVE = { scheduled = true, queued = true, running = true }
local SUCCESSOR = { 'next_generation', 'next_function', 'next_when', 'next_payload', 'next_large', 'next_trace', 'next_token' }
local OF_A_CLAIM = { 'parked', 'worker', 'message', 'started_at', 'current', 'total', 'note', 'updated_at', 'report', 'alone', 'unknown_since' }

local function read(record)
  local flat = redis.call('HGETALL', record)
  local run = {}
  for i = 1, #flat, 2 do
    run[flat[i]] = flat[i + 1]
  end
  return run
end

-- A payload that stands beside its record; '' where it is gone, or is no text: then it cannot be decoded, and the run ends as such runs do.
local function large_payload(key)
  local fine, payload = pcall(redis.call, 'GET', key)
  return fine and payload or ''
end

local function netstring(value)
  value = value or ''
  return #value .. ':' .. value .. ','
end

-- Tells whoever watches a key what became of one generation. The full shape, always. Free text stands behind the line that gives
-- its lengths, so that one concatenation makes the whole: this is on the road of every task, three times.
-- superseded: '1' where another run took its place; '2' where it was to follow another and was dropped, '3' where it was to follow and was cancelled; else ''.
local function tell(key, generation, state, when, worker, started_at, completed_at, error, superseded)
  publish_of(key, 's ' .. generation .. ' ' .. state .. ' ' .. when .. ' ' .. started_at .. ' ' .. completed_at .. ' ' .. superseded
    .. ' ' .. #key .. ' ' .. #worker .. '\n' .. key .. worker .. error)
end

local function announce(key, generation, state, run, completed_at, error, superseded)
  tell(key, generation, state, run.when or '', run.worker or '', run.started_at or '', completed_at or '', error or '', superseded or '')
end

-- What the record remembers of the run before: whoever was not there to hear of its end reads it here.
local function remembered(generation, word, moment)
  return generation .. ' ' .. word .. ' ' .. moment
end

-- A run that never came to be (its replacement or the end of its predecessor's attempt took its place) has an end too.
local function announce_dropped_successor(key, run)
  if run.next_generation then
    announce(key, run.next_generation, 'cancelled', { when = run.next_when }, now_text, '', '2')
  end
end

local function is_due(when)
  return when == '' or tonumber(when) <= now
end

-- Puts a run where it belongs by its due time; answers the state it is then in. The record is the caller's to write.
local function enqueue(stream, queue, key, generation, when)
  if is_due(when) then
    redis.call('XADD', stream, '*', 'key', key, 'generation', generation)
    return 'queued'
  end
  redis.call('ZADD', queue, when, key)
  return 'scheduled'
end

-- Runs one item of a batch; what goes wrong with it is its own reply and no other's.
local function attempt(item, ...)
  local fine, reply = pcall(item, ...)
  if fine then
    return reply
  end
  if type(reply) == 'table' then
    reply = reply.err
  end
  return { 'error', tostring(reply) }
end
