-- Asks limits, in their shard, to let runs of other shards pass: one item a run, with its limits of this shard. It passes all of them or takes a place in none.
-- KEYS: stream, queue, meta, waiting limits, then per item and limit the keys that `admit` takes
-- ARGV: now, state channels, group, wake channel, then per item: key, generation, delivery, lease_us, quiet ('1': it has waited for that),
--       first ('1': it counted as the first), how many limits, and per limit what `admit` takes
-- Replies, per item: {word, detail, marks}: 'admitted', '' | 'parked', identity | 'later', when | 'dropped', kind; | {'error', message}
--       marks: what its record is to say from now on: quiet, first, or both, separated by a space
-- One that is parked stands in line, but its record does not say so yet: that is the caller's to do, in the run's shard, with `aside`.
-- Events: none. A repeat is answered as the first time, unless the run was let in meanwhile: then it is admitted.
--@include run
--@include limits
--@include gates

-- A run of another shard is settled there before it gives its place up here, and may be under way again by then. So each delivery has a place of its own, and takes over
-- that of the one before; between two of them a delivery number may be left out. A place is kept for all of them: under the generation alone.
local function ask(item)
  local run = { key = item.key, generation = item.generation, delivery = item.delivery, when = '', lease = item.lease, quiet = item.quiet, first = item.first, marks = {},
    holder = item.generation .. '.' .. item.delivery, formers = { item.generation } }
  for back = 1, 2 do
    run.formers[back + 1] = string.format('%s.%.0f', item.generation, tonumber(item.delivery) - back)
  end
  local word, detail = 'admitted', ''
  local verdict = blocked(item, run)
  if verdict then
    word, detail = verdict[1], verdict[2] or (verdict.limit and verdict.limit.identity) or ''
    if word ~= 'dropped' then
      remember_aside(item, run, verdict)
    end
  else
    pass(item, run)
  end
  local marks = (run.marks.quiet and 'quiet ' or '') .. (run.marks.first and 'first' or '')
  return { word, detail, marks }
end

local function flag(argument)
  return argument ~= '' and argument or nil
end

local function main()
  local replies = {}
  -- Deletes nothing. A server out of memory refuses a script that starts by writing a hash, and draining is what it needs.
  redis.call('XDEL', KEYS[1], '0-0')
  local k, a = 5, 5
  while ARGV[a] do
    local item = { key = ARGV[a], generation = ARGV[a + 1], delivery = ARGV[a + 2], lease = tonumber(ARGV[a + 3]), quiet = flag(ARGV[a + 4]), first = flag(ARGV[a + 5]), gates = {} }
    local count = tonumber(ARGV[a + 6])
    k = k + read_gates(item, count, k, a + 7)
    a = a + 7 + 5 * count
    replies[#replies + 1] = attempt(ask, item)
  end
  return replies
end
