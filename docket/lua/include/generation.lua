-- Takes the next generation of a docket in one piece, or of a shard. The first of all settles that the docket is in one piece, unless somebody has said
-- a number of shards by then, or has moved it: whoever asks here opened it before that, and would write where nobody looks. Then it is an error, and nothing is written.
local function refuse_if_elsewhere(meta)
  local moving, shards = redis.call('HGET', meta, 'moving') or '', redis.call('HGET', meta, 'shards') or '1'
  if moving ~= '' or shards ~= '1' then
    error('DOCKET-DIVIDED ' .. (moving ~= '' and moving or shards), 0)
  end
end

local function flipped(number, bit)
  return math.floor(number / bit) % 2 == 0 and number + bit or number - bit
end

-- The slot of a tag: CRC-16 (XMODEM), bit by bit, since not every engine has operations on bits.
local function slot_of(tag)
  local crc = 0
  for place = 1, #tag do
    local byte = string.byte(tag, place)
    for shift = 7, 0, -1 do
      local is_odd = (math.floor(crc / 32768) + math.floor(byte / 2 ^ shift)) % 2 == 1
      crc = crc * 2 % 65536
      if is_odd then
        crc = flipped(flipped(crc + 1, 32), 4096)
      end
    end
  end
  return crc % 16384
end

-- What a shard counts from, so that no two shards of a docket give the same generation: so many times `STRIDE`, by the part of the slots that its tag is in.
-- It is told from the name, because nothing else needs to be there: all data may have been lost since the docket was opened, or that of one server of several.
local function start_of(meta)
  local tag, shards = string.match(meta, '^{(.*~(%d+)%.%d+)}:meta$')
  return tag and math.floor(slot_of(tag) * tonumber(shards) / 16384) * 100000000000
end

local function begin_docket(meta)
  redis.call('HDEL', meta, 'generation')
  refuse_if_elsewhere(meta)
  local start = start_of(meta)
  redis.call('HSET', meta, 'generation', string.format('%.0f', (start or 0) + 1))
  if not start and not redis.call('HGET', meta, 'layout') then
    redis.call('HSET', meta, 'layout', 1)
  end
  return (start or 0) + 1
end

local function next_generation(meta)
  local generation = redis.call('HINCRBY', meta, 'generation', 1)
  return generation == 1 and begin_docket(meta) or generation
end
