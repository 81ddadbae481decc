-- The limits of a run, of every kind: whether it may pass, taking what it takes, and what is noted of one that has to come back.
-- Needs: KEYS[1] the stream, KEYS[3] meta, KEYS[4] the waiting limits; run, limits.
local MARGIN_MS = 60000

-- What a run has behind it stands in its record; where that is in another shard, the caller is told instead.
local function mark(run, field)
  if run.record then
    redis.call('HSET', run.record, field, '1')
  else
    run.marks[field] = true
  end
end

local function ms(us)
  return string.format('%.0f', us / 1000 + MARGIN_MS)
end

-- Each kind looks whether a run may pass: answers nil, or what to do instead; `pass` then takes the place.
local LOOK = {}
local PASS = {}

-- Under which name a run has a place already: its own, that under which one was kept for it, or that of a delivery before this one.
local function held(limit, run)
  if redis.call('ZSCORE', limit.holders, run.holder) then
    return run.holder
  end
  for _, former in ipairs(run.formers) do
    if redis.call('ZSCORE', limit.holders, former) then
      return former
    end
  end
  return nil
end

function LOOK.concurrency(gate, run)
  local limit = gate.limit
  local free = let_in(KEYS[1], KEYS[4], limit, tonumber(gate.a))
  if held(limit, run) or free > 0 then
    return nil
  end
  return { 'parked', limit = limit, most = gate.a }
end

function PASS.concurrency(gate, run)
  local limit = gate.limit
  if run.formers[1] then
    redis.call('ZREM', limit.holders, unpack(run.formers))
    if redis.call('ZREM', limit.waiters, run.generation .. '|' .. run.key) == 1 and redis.call('ZCARD', limit.waiters) == 0 then
      close_line(KEYS[4], limit)
    end
  end
  redis.call('ZADD', limit.holders, string.format('%.0f', lease_now + run.lease), run.holder)
  redis.call('PEXPIRE', limit.holders, FORGET_MS)
end

local OVERDUE = 200 -- promises looked at that others have not kept; beyond that, a run that comes too early once more does no harm

local function score(member)
  return tonumber(member[2])
end

-- A sliding window over the moments at which runs started. Who comes too early is promised a moment; the promises stand apart from
-- the starts, because a promised run may start late, and the next one then waits for that start rather than for the promise.
function LOOK.rate(gate, run)
  local runs, per = tonumber(gate.a), tonumber(gate.b)
  local past = string.format('%.0f', now - per)
  redis.call('ZREMRANGEBYSCORE', gate.key, '-inf', past)
  redis.call('ZREMRANGEBYSCORE', gate.promises, '-inf', past)
  local started, promised = redis.call('ZCARD', gate.key), redis.call('ZSCORE', gate.promises, run.generation)
  if redis.call('ZSCORE', gate.key, run.generation .. '.' .. run.delivery) then
    return nil -- a repeat
  end
  local when
  if promised then
    when = tonumber(promised)
    if when <= now then
      if started < runs then
        return nil
      end
      local before = #redis.call('ZRANGEBYSCORE', gate.promises, '-inf', '(' .. promised, 'LIMIT', 0, OVERDUE)
      local at = started - runs + before % runs
      when = score(redis.call('ZRANGE', gate.key, at, at, 'WITHSCORES')) + per * (1 + math.floor(before / runs))
    end
  else
    local ahead = redis.call('ZCARD', gate.promises)
    if started + ahead < runs then
      return nil
    end
    if gate.c == '1' then
      return { 'dropped', 'rate' }
    end
    local from, at = gate.promises, -runs
    if ahead < runs then
      from, at = gate.key, ahead - runs
    end
    when = score(redis.call('ZRANGE', from, at, at, 'WITHSCORES')) + per
  end
  return { 'later', string.format('%.0f', when), promise = gate }
end

function PASS.rate(gate, run)
  redis.call('ZREM', gate.promises, run.generation)
  redis.call('ZADD', gate.key, now_text, run.generation .. '.' .. run.delivery)
  redis.call('PEXPIRE', gate.key, ms(tonumber(gate.b)))
end

function LOOK.cooldown(gate, run)
  local by, until_us = unpack(pick(gate.key, 'by', 'until'))
  if by and by ~= run.generation and tonumber(until_us) > now then
    return { 'dropped', 'cooldown' }
  end
  return nil
end

function PASS.cooldown(gate, run)
  redis.call('HSET', gate.key, 'by', run.generation, 'until', string.format('%.0f', now + tonumber(gate.a)))
  redis.call('PEXPIRE', gate.key, ms(tonumber(gate.a)))
end

-- The first to come runs once nobody has come for so long; everybody else only moves that moment, and is dropped.
-- Whoever was told to come back, and finds that it took so long that another counts as the first, still runs if it is quiet now.
function LOOK.debounce(gate, run)
  if run.quiet then
    return nil -- it has waited for quiet already, and then for a place, or for another attempt
  end
  local quiet = tonumber(gate.a)
  local first, last, due = unpack(pick(gate.key, 'first', 'last', 'due'))
  local is_quiet = first and tonumber(last) + quiet <= now
  if is_quiet and (first == run.generation or run.first) then
    return nil
  end
  if first and first ~= run.generation and tonumber(due) + quiet < now then
    first = false -- it never came back: cancelled, or replaced
  end
  if first and first ~= run.generation then
    return { 'dropped', 'debounce', moves = gate }
  end
  local when = string.format('%.0f', (first and tonumber(last) or now) + quiet)
  return { 'later', when, awaits = gate, arrives = not first }
end

function PASS.debounce(gate, run)
  if not run.quiet then
    redis.call('DEL', gate.key)
    mark(run, 'quiet')
  end
end

local function remember_waiting(gate, run, when, arrives)
  local fields = { 'first', run.generation, 'due', when }
  if arrives then
    fields[5], fields[6] = 'last', now_text
  end
  redis.call('HSET', gate.key, unpack(fields))
  redis.call('PEXPIRE', gate.key, ms(tonumber(when) - now + tonumber(gate.a)))
  mark(run, 'first')
end

-- A run that has waited for quiet keeps that while it waits for a place; a moment promised to it does not keep.
local function keep_waiting(item, run)
  for _, gate in ipairs(item.gates) do
    if gate.kind == 'debounce' then
      PASS.debounce(gate, run)
    elseif gate.kind == 'rate' then
      redis.call('ZREM', gate.promises, run.generation)
    end
  end
end

-- Has a limit remember a run that does not pass: in its line, or by the moment at which it is to come back.
local function remember_aside(item, run, verdict)
  if verdict[1] == 'parked' then
    local limit = verdict.limit
    keep_waiting(item, run)
    local member = run.generation .. '|' .. item.key
    if not redis.call('ZSCORE', limit.waiters, member) then -- one that stands in line already, and came by an entry left over, keeps its turn
      redis.call('ZADD', limit.waiters, redis.call('HINCRBY', KEYS[3], 'arrivals', 1), member)
    end
    redis.call('SET', limit.most, verdict.most)
    if not redis.call('ZSCORE', KEYS[4], limit.identity) then -- else whoever comes would put off the sweep
      redis.call('ZADD', KEYS[4], now_text, limit.identity)
    end
  elseif verdict.promise then
    redis.call('ZADD', verdict.promise.promises, verdict[2], run.generation)
    redis.call('PEXPIRE', verdict.promise.promises, ms(tonumber(verdict[2]) - now + tonumber(verdict.promise.b)))
  elseif verdict.awaits then
    remember_waiting(verdict.awaits, run, verdict[2], verdict.arrives)
  end
end

-- A place that was kept for a run, or that its last worker left, goes to the next when the run does not pass.
local function give_up_places(item, run)
  for _, gate in ipairs(item.gates) do
    local place = gate.limit and held(gate.limit, run)
    if place then
      leave(KEYS[1], KEYS[4], gate.limit, place)
    end
  end
end

-- Looks at all limits of a run: answers nil, or why it does not pass; then it has given up its places.
local function blocked(item, run)
  for _, gate in ipairs(item.gates) do
    local verdict = LOOK[gate.kind](gate, run)
    if verdict then
      give_up_places(item, run)
      if verdict.moves then
        redis.call('HSET', verdict.moves.key, 'last', now_text)
      end
      return verdict
    end
  end
  return nil
end

local function pass(item, run)
  for _, gate in ipairs(item.gates) do
    PASS[gate.kind](gate, run)
  end
end

-- Reads one limit of an item; answers how many keys it has.
local function read_gate(k, a)
  local gate = { kind = ARGV[a], key = KEYS[k], a = ARGV[a + 2], b = ARGV[a + 3], c = ARGV[a + 4] }
  if gate.kind == 'concurrency' then
    gate.limit = { identity = ARGV[a + 1], holders = KEYS[k], waiters = KEYS[k + 1], most = KEYS[k + 2] }
    return gate, 3
  end
  if gate.kind == 'rate' then
    gate.promises = KEYS[k + 1]
    return gate, 2
  end
  return gate, 1
end

-- Reads so many limits into an item; answers how many keys they have.
local function read_gates(item, count, k, a)
  local places, from = {}, k
  for _ = 1, count do
    local gate, width = read_gate(k, a)
    -- Places last: who waits for one has passed everything else.
    local among = gate.limit and places or item.gates
    among[#among + 1] = gate
    k, a = k + width, a + 5
  end
  for _, gate in ipairs(places) do
    item.gates[#item.gates + 1] = gate
  end
  return k - from
end
