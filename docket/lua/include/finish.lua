-- Ends a run for good. Needs: run. keys: record [, payload, successor, outcome]; ttl_ms 0 keeps nothing.
local function finish(keys, key, run, state, ttl_ms, outcome, outcome_is_large, error)
  if ttl_ms == '0' then
    redis.call('DEL', keys.record)
    if keys.payload then
      redis.call('DEL', keys.payload)
    end
  else
    local fields = { 'state', state, 'completed_at', now_text }
    if outcome ~= '' then
      if outcome_is_large then
        redis.call('SET', keys.outcome, outcome, 'PX', ttl_ms)
        fields[#fields + 1] = 'beside'
        fields[#fields + 1] = '1'
      else
        fields[#fields + 1] = 'outcome'
        fields[#fields + 1] = outcome
      end
    end
    redis.call('HSET', keys.record, unpack(fields))
    redis.call('PEXPIRE', keys.record, ttl_ms)
    if keys.payload then
      redis.call('PEXPIRE', keys.payload, ttl_ms)
    end
  end
  announce(key, run.generation, state, run, now_text, error)
end

-- Forgets the successor a run asked for.
local function drop_successor(keys, key, run)
  if run.next_generation then
    announce_dropped_successor(key, run)
    redis.call('HDEL', keys.record, unpack(SUCCESSOR))
    if run.next_large then
      redis.call('DEL', keys.successor)
    end
  end
end
