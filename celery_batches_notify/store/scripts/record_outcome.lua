-- Count how one execution of one member ended.
-- KEYS: the batch. ARGV: channel; index; id (16 bytes); state after it (1 failing, 2 dead, 3 succeeded); stamp
-- (round * 4096 + attempt); reason; the failure as JSON or ''; how many failures are kept; for a dead member what a
-- retry needs as JSON, or '' and why there is none; how many of these are kept.
-- Answer: counted, then the deliveries now due | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because a member has one state, success is final, and an attempt is counted by its stamp.
local index, id, state, stamp = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local reason, failure, failures_kept = ARGV[6], ARGV[7], tonumber(ARGV[8])
local resend, unsendable, resend_kept = ARGV[9], ARGV[10], tonumber(ARGV[11])
local COUNTER = {[FAILING] = 'failing', [DEAD] = 'dead', [SUCCEEDED] = 'succeeded'}

local function keep_failure()
  if redis.call('HEXISTS', FAILURES, index) == 0 and redis.call('HLEN', FAILURES) >= failures_kept then
    local evicted = false
    for _, other in ipairs(state == DEAD and redis.call('HKEYS', FAILURES) or {}) do
      if state_of(other) == FAILING then
        evicted = redis.call('HDEL', FAILURES, other) == 1
        break
      end
    end
    if not evicted then return end
  end
  redis.call('HSET', FAILURES, index, string.format('%.0f %s', now, failure))
  share_life(FAILURES)
end

local function keep_for_retry()
  local room = redis.call('HEXISTS', RESEND, index) == 1 or redis.call('HLEN', RESEND) < resend_kept
  if resend ~= '' and not room then resend, unsendable = '', 'too many dead' end
  if resend == '' and unsendable == '' then return end
  if resend == '' then
    redis.call('HINCRBY', BATCH, 'unsendable:' .. unsendable, 1)
  else
    redis.call('HSET', RESEND, index, '0 ' .. resend)
    share_life(RESEND)
  end
end

local why = refusal()
if why then return {why} end
local b = redis.call('HMGET', BATCH, 'total', 'retired', 'cancelled_at')
local total = tonumber(b[1])
if index >= total then return {'stranger'} end
if redis.call('STRLEN', STATES) * 4 < total or redis.call('STRLEN', MEMBERS) < total * ID_BYTES then return {'corrupt'} end
if redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) ~= id then return {'stranger'} end
local before = state_of(index)
if before == SUCCEEDED then return {'repeated'} end
local high, low = string.byte(redis.call('GETRANGE', ATTEMPTS, index * 2, index * 2 + 1), 1, 2)
local last = (high or 0) * 256 + (low or 0)
local fresh = stamp > last
if state ~= SUCCEEDED and not fresh and not (stamp == last and before == FAILING and state == DEAD) then
  return {'repeated'}
end
if b[2] then return {'retired'} end

if before ~= state then
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, state)
  if before ~= WAITING then redis.call('HINCRBY', BATCH, COUNTER[before], -1) end
  redis.call('HINCRBY', BATCH, COUNTER[state], 1)
end
redis.call('HSET', BATCH, 'reported_at', now)
if state == SUCCEEDED then
  redis.call('HDEL', FAILURES, index)
  redis.call('HDEL', RESEND, index)
  tokens[1] = '+'
else
  if fresh then
    redis.call('SETRANGE', ATTEMPTS, index * 2, string.char(math.floor(stamp / 256), stamp % 256))
    share_life(ATTEMPTS)
    tokens[1] = '-'
  end
  if failure ~= '' then keep_failure() end
  if state == DEAD then
    keep_for_retry()
    -- Discarded with its batch is no death.
    local discarded = reason == 'cancelled' or b[3] and (reason == 'revoked' or reason == 'terminated')
    if not discarded then redis.call('HSETNX', BATCH, 'died', 1) end
  end
end
return conclude('counted')
