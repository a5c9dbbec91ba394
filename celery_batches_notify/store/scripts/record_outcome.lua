-- Count how one execution of one member ended, and enrol the successors that it published before that.
-- KEYS: the batch. ARGV: channel; index (a late member's: of the one in `late_of`); id (16 bytes); state after it
-- (1 failing, 2 dead, 3 succeeded); stamp (round * 4096 + attempt); reason; the failure as JSON or ''; how many
-- failures are kept; for a dead member what a retry needs as JSON, or '' and why there is none ('' where nobody asks);
-- how many of these are kept; late_of ('' where the index is the member's own, else whose canvas it goes on with); the
-- successors (16 bytes each); what the body of its chord begins with (16 bytes each), or `broken`;
-- then 16 bytes, id … for late members whose ids are not UUIDs. A success may end after its state.
-- Answer: counted, then the deliveries now due | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because a member has one state, success is final, an attempt is counted by its stamp, and a late
-- member is enrolled once, whoever tells of it first.
local index, id, state, stamp = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5] or 0)
local reason, failure, failures_kept = ARGV[6] or '', ARGV[7], tonumber(ARGV[8] or 0)
local resend, unsendable, resend_kept = ARGV[9], ARGV[10], tonumber(ARGV[11] or 0)
local late_of, successors, body = ARGV[12] or '', ARGV[13] or '', ARGV[14] or ''
local COUNTER = {[FAILING] = 'failing', [DEAD] = 'dead', [SUCCEEDED] = 'succeeded'}

local why = refusal()
if why then return {why} end
local admitted
index, admitted = admit(index, id, late_of, successors)
if not index then return {admitted} end
local before = state_of(index)
local last = state ~= SUCCEEDED and last_stamp(index) or 0
local function repeated()
  -- What comes after the last attempt that a stamp can tell of looks the same, and is a sign of life.
  local moves = stamp == last and last % ROUND == ROUND - 1 and before == FAILING and state == FAILING
  if moves then redis.call('HSET', BATCH, 'reported_at', now) end -- safety: moves-keep-alive
  return (admitted or moves) and conclude('repeated') or {'repeated'}
end
if before == SUCCEEDED or reason == 'never published' and before ~= WAITING then return repeated() end -- safety: success-final
local fresh = stamp > last
-- Of an attempt that was counted as failing, a lost worker says nothing new: the retry that it announced may have left.
local worse = stamp == last and before == FAILING and state == DEAD and reason ~= 'lost'
if state ~= SUCCEEDED and not fresh and not worse then return repeated() end -- safety: stamp-counts-once
local b = redis.call('HMGET', BATCH, 'retired', 'cancelled_at')
if b[1] then return {'retired'} end -- safety: retired-refuses

if before ~= state then
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, state)
  if before ~= WAITING then redis.call('HINCRBY', BATCH, COUNTER[before], -1) end -- safety: leaves-old-state
  redis.call('HINCRBY', BATCH, COUNTER[state], 1)
end
redis.call('HSET', BATCH, 'reported_at', now)
if before == DEAD and state ~= DEAD then forget_reason(index) end -- safety: reason-forgotten
if state == SUCCEEDED then
  redis.call('HDEL', FAILURES, index)
  redis.call('HDEL', RESEND, index)
  redis.call('HDEL', CALLS, index) -- safety: succeeded-not-kept
  tokens[1] = '+'
  if body ~= '' then await_body(body) end
  enrol_awaited()
else
  if fresh then
    note_stamp(index, stamp)
    tokens[1] = '-'
  end
  if failure ~= '' then keep_failure(index, state, failure, failures_kept) end
  local over = stamp >= LAST_ROUND * ROUND
  local voided = over and void_call(index) -- safety: call-voided
  if state == DEAD then
    if over then resend, unsendable = '', 'it was sent again 15 times' end -- safety: last-round-unkept
    keep_for_retry(index, voided and FAILING or before, resend, unsendable, resend_kept)
    -- Discarded with its batch is no death.
    local discards = {revoked = true, terminated = true, ['never published'] = true}
    if not (reason == 'cancelled' or b[2] and discards[reason]) then redis.call('HSETNX', BATCH, 'died', 1) end
  end
end
return conclude('counted')
