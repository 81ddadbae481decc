-- Moves one run that has not begun to another moment, or (promote) makes it ready now. Scheduled work, queued work, and a successor that was asked for.
-- KEYS: stream, queue, waiting limits, record, and with a limit its holders, waiters and most
-- ARGV: now, state channels, wake channel, key, generation, token, when ('' = now, and then work that is queued or running stays as it is),
--       identity of the limit in whose line it stands ('': none that the caller knows of)
-- Replies: {'moved', state, when} | {'line', identity}: nothing was done, ask again with the keys of that limit
--        | {'wrong', state} | {'superseded'} | {'gone'}
-- Events: state (scheduled, queued), wake. A repeat (same token) finds what it did, and answers with the state that now stands.
-- It keeps its generation, so whoever waits for its result goes on waiting.
--
-- Why an entry that is left in the stream cannot make it run early. Queued work that is moved leaves its entry where it is: nobody knows its id.
-- Whoever reads that entry, or has read it already, claims it, and `claim` takes a run only while its record says `queued`. Between here and
-- the moment it is due, the record says `scheduled`: the entry is refused, and acknowledged away. Afterwards it is due, so whichever entry is claimed
-- first, the old one or the mover's, is in time; the record then says `running` with that entry's id, and the other one is refused.
-- A claim that came before this script left the record `running`, which is answered with `wrong`.
-- A place that was kept for it under a limit goes to the next at once; refusing the old entry gives it up once more, which does nothing.
--@include run
--@include wake
--@include limits

local record = KEYS[4]

local function is_promoted()
  return ARGV[7] == ''
end

-- To be let in is no longer its turn: it asks its limits again when it is due.
local function leave_the_line(run)
  if run.parked then
    step_out(KEYS[1], KEYS[3], { identity = ARGV[8], holders = KEYS[5], waiters = KEYS[6], most = KEYS[7] }, run.generation, ARGV[4])
  end
  redis.call('HDEL', record, 'aside', 'parked')
end

local function move(run, when)
  redis.call('ZREM', KEYS[2], ARGV[4])
  if not is_due(when) then
    note_due(KEYS[2], when)
    leave_the_line(run)
  end
  local state = enqueue(KEYS[1], KEYS[2], ARGV[4], run.generation, when)
  redis.call('HSET', record, 'state', state, 'when', when, 'asked', ARGV[6])
  announce(ARGV[4], run.generation, state, { when = when }, '', run.error)
  return { 'moved', state, when }
end

local function main()
  local run = read(record)
  local when = is_promoted() and now_text or ARGV[7]
  if not run.state then
    return { 'gone' }
  end
  if run.next_generation == ARGV[5] then
    redis.call('HSET', record, 'next_when', when)
    return { 'moved', 'scheduled', when }
  end
  if run.generation ~= ARGV[5] then
    return { 'superseded' }
  end
  if run.asked == ARGV[6] then
    return { 'moved', run.state, run.when }
  end
  if not LIVE[run.state] or (run.state == 'running' and not is_promoted()) then
    return { 'wrong', run.state }
  end
  if run.state == 'running' or (run.state == 'queued' and is_due(when)) then
    return { 'moved', run.state, run.when }
  end
  if run.parked and run.parked ~= ARGV[8] then
    return { 'line', run.parked }
  end
  local reply = move(run, when)
  wake_movers(ARGV[3])
  return reply
end
