-- Take a member whose worker or message was lost for another round, instead of counting it as dead.
-- KEYS: the batch. ARGV: as `record_outcome` takes them, of the attempt that was lost; what to send as JSON is there, or
-- `@`: it lies in CALLS, because its message is gone. Then one that has never run still waits, or `complete` came early.
-- Answer: claimed, its index, the new round, then the deliveries now due | cancelled | exhausted: it was lost too often,
-- or has no rounds left | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because an attempt is lost once, by its stamp, and a newer round is out of its reach; what was claimed
-- and not sent is found by `resend_at`.
local index, id, stamp, failure, failures_kept = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[5]), ARGV[7], tonumber(ARGV[8])
local call, late_of = ARGV[9], ARGV[12]
local LEASE_FOR_SENDING_MS, ROUNDS_AT_MOST = 60000, 3

local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'cancelled'} end
local round = math.floor(stamp / ROUND) + 1
if round > ROUNDS_AT_MOST then return {'exhausted'} end
local admitted
index, admitted = admit(index, id, late_of, '')
if not index then return {admitted} end
local before = state_of(index)
if before == SUCCEEDED or stamp <= last_stamp(index) then
  return admitted and conclude('repeated') or {'repeated'}
end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end

local waits = call == '@' and before == WAITING -- safety: resent-waits
if before ~= FAILING and not waits then
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, FAILING)
  if before == DEAD then
    redis.call('HINCRBY', BATCH, 'dead', -1)
    forget_reason(index)
  end
  redis.call('HINCRBY', BATCH, 'failing', 1)
end
note_stamp(index, round * ROUND)
if failure ~= '' and not waits then keep_failure(index, FAILING, failure, failures_kept) end
redis.call('HSET', RESEND, index, round .. ' ' .. call)
share_life(RESEND)
redis.call('HSET', BATCH, 'resend_at', now + LEASE_FOR_SENDING_MS, 'reported_at', now)
if not waits then tokens[1] = '-' end
local answer = conclude('claimed')
table.insert(answer, 2, index)
table.insert(answer, 3, round)
return answer
