-- Reports progress of a run that is under way.
-- KEYS: record
-- ARGV: now, state channels, key, generation ('' = whichever runs), delivery, add, total ('' = as it is), has note ('1'), note,
--   number of the report ('' = none: a repeat counts again)
-- Replies: {'reported', current, total, note or false, updated_at} | {'superseded'}
-- Events: progress
--@include run

local function main()
  local run = read(KEYS[1])
  if run.state ~= 'running' or (ARGV[4] ~= '' and (run.generation ~= ARGV[4] or run.delivery ~= ARGV[5])) then
    return { 'superseded' }
  end
  if ARGV[10] ~= '' and run.report == ARGV[10] then -- the reply to this very report was lost
    return { 'reported', run.current, run.total, run.note or '', run.updated_at }
  end
  local current = string.format('%.0f', tonumber(run.current or '0') + tonumber(ARGV[6]))
  local total = (ARGV[7] ~= '' and ARGV[7]) or run.total or '100'
  local note = run.note
  local fields = { 'current', current, 'total', total, 'updated_at', now_text }
  if ARGV[8] == '1' then
    note = ARGV[9]
    fields[#fields + 1] = 'note'
    fields[#fields + 1] = note
  end
  if ARGV[10] ~= '' then
    fields[#fields + 1] = 'report'
    fields[#fields + 1] = ARGV[10]
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  publish_of(ARGV[3], '1:p,' .. netstring(ARGV[3]) .. netstring(run.generation) .. netstring(current) .. netstring(total) .. netstring(note) .. netstring(now_text))
  return { 'reported', current, total, note or '', now_text }
end
