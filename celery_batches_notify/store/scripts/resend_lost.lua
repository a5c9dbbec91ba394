-- Take a member whose worker or message was lost for another round, instead of marking it dead.
-- KEYS: the batch. ARGV: channel; a report of the attempt that was lost, as `shared/report.lua` names it. Its call is `@` if
-- it lies in CALLS because the message is gone: then a member that has never run still waits, or `complete` came early.
-- Answer: claimed, its index, the new round, then the deliveries now due | cancelled | exhausted (it was lost too often, or
-- has no rounds left) | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because an attempt is lost once, by its stamp, and cannot change a newer round; the sweeper finds members
-- that were claimed and not sent by `resend_at`.
local ROUNDS_AT_MOST = 3
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'cancelled'} end
local round = round_of(stamp) + 1
if round > ROUNDS_AT_MOST then return {'exhausted'} end
local index, grew, refused = admit(named_index, id, origin_id, '', names)
if refused then return {refused} end
local before = state_of(index)
if before == SUCCEEDED or stamp <= last_stamp(index) then
  return grew and conclude('repeated') or {'repeated'}
end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end

local waits = call == '@' and before == WAITING -- safety: resent-waits
if not waits then
  move_member(index, before, FAILING)
  if failure ~= '' then keep_failure(index, FAILING, failure, failures_kept) end
  tokens[1] = '-'
end
begin_round(index, round, call)
local answer = conclude('claimed')
table.insert(answer, 2, index)
table.insert(answer, 3, round)
return answer
