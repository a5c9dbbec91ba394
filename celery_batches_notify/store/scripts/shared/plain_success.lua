-- Put before all else of `record_outcome`: the short way of a plain success, which most reports are. Its member waits,
-- as another one does after it: so no event can become true, and of all that `record_outcome` may have to do there is
-- only this to do. Whatever is not plain goes on below, where it is decided.
local BATCH, STATES, MEMBERS, RESEND, CALLS, CURVE = KEYS[1], KEYS[2], KEYS[3], KEYS[8], KEYS[13], KEYS[15]

-- The member's state if it is one of the batch, and everything else of the batch stays as it is; and its counts.
local function read_plainly(index, id)
  local b = redis.call('HMGET', BATCH, 'schema', 'total', 'succeeded', 'failing', 'dead', 'retired', 'life', 'expires',
    'callbacks:progress')
  if tonumber(b[1]) ~= SCHEMA or b[6] or b[7] ~= 'running' or (b[9] or '0') ~= '0' then return end
  local total = tonumber(b[2])
  if total - b[3] - b[4] - b[5] < 2 then return end -- safety: plain-not-last
  if redis.call('STRLEN', STATES) * 4 < total then return end -- safety: plain-lost-key
  if redis.call('PTTL', BATCH) * 2 <= tonumber(b[8]) then return end -- safety: plain-renewed
  -- Somebody may have made the index up: it is looked up only if it is one of the batch's.
  if index >= total or redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) ~= id then return end
  return redis.call('BITFIELD', STATES, 'GET', 'u2', '#' .. index)[1], total, b[3], b[5]
end

local function count_plainly(index, id)
  local state, total, succeeded, dead = read_plainly(index, id)
  if state == SUCCEEDED then return {'repeated'} end
  if state ~= WAITING then return end
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, SUCCEEDED)
  redis.call('HSET', BATCH, 'succeeded', succeeded + 1, 'reported_at', now)
  note_mark(BATCH, CURVE, total, succeeded + 1 + dead, now)
  -- A member that waits can have something in RESEND only if its call is kept.
  if redis.call('HDEL', CALLS, index) == 1 then redis.call('HDEL', RESEND, index) end -- safety: plain-not-kept
  redis.pcall('PUBLISH', ARGV[1], '+')
  return {'counted'}
end

if #ARGV == 4 and tonumber(ARGV[4]) == SUCCEEDED then
  local answer = count_plainly(tonumber(ARGV[2]), ARGV[3])
  if answer then return answer end
end
