-- Count how one execution of one member ended, and enrol the successors that it published before that.
-- KEYS: the batch. ARGV: channel; a report, as `shared/report.lua` names it.
-- Answer: counted, then the deliveries now due | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because a member has one state, success is final, an attempt is counted by its stamp, and a successor
-- is enrolled once, whichever report names it first.
local why = refusal()
if why then return {why} end
local index, grew, refused = admit(named_index, id, origin_id, successors, names)
if refused then return {refused} end
local before = state_of(index)
local last = state ~= SUCCEEDED and last_stamp(index) or 0
local fresh = stamp > last

local function is_news()
  if before == SUCCEEDED or reason == 'never published' and before ~= WAITING then return false end -- safety: success-final
  -- An attempt that was counted as failing is not lost with its worker, because its retry may have left.
  local worse = stamp == last and before == FAILING and state == DEAD and reason ~= 'lost'
  return state == SUCCEEDED or fresh or worse -- safety: stamp-counts-once
end

if not is_news() then
  -- Attempts beyond the last that a stamp can name look the same: they are signs of life.
  local moves = stamp == last and last % ROUND == ROUND - 1 and before == FAILING and state == FAILING
  if moves then redis.call('HSET', BATCH, 'reported_at', now) end -- safety: moves-keep-alive
  return (grew or moves) and conclude('repeated') or {'repeated'}
end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end -- safety: retired-refuses

move_member(index, before, state)
redis.call('HSET', BATCH, 'reported_at', now)
if state == SUCCEEDED then
  redis.call('HDEL', FAILURES, index)
  redis.call('HDEL', RESEND, index)
  redis.call('HDEL', CALLS, index) -- safety: succeeded-not-kept
  tokens[1] = '+'
  if body ~= '' then await_body(body) end
  enrol_awaited(names)
  return conclude('counted')
end
if fresh then
  note_stamp(index, stamp)
  tokens[1] = '-'
end
if failure ~= '' then keep_failure(index, state, failure, failures_kept) end
local over = stamp >= LAST_ROUND * ROUND
local voided = over and void_call(index) -- safety: call-voided
if state == DEAD then
  if over then call, unsendable = '', 'it was sent again 15 times' end -- safety: last-round-unkept
  keep_for_retry(index, voided and FAILING or before, call, unsendable, calls_kept)
  note_death(reason)
end
return conclude('counted')
