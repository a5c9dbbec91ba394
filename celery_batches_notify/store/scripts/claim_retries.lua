-- Claim dead members for another round, so that whoever asks first sends them again.
-- KEYS: the batch. ARGV: channel; indices …. Answer: claimed, then index, round, what to send (`@`: it lies in CALLS) … |
-- cancelled | retired | gone | newer. Safe to repeat because the move from dead to failing is the claim.
local LEASE_FOR_SENDING_MS = 60000
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'cancelled'} end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end
local answer, moved = {'claimed'}, 0
for i = 2, #ARGV do
  local index = ARGV[i]
  local call = string.match(redis.call('HGET', RESEND, index) or '', '^0 (.*)$')
  local is_kept = not call and redis.call('HEXISTS', CALLS, index) == 1 -- safety: kept-call-resent
  local round = math.floor(last_stamp(index) / ROUND) + 1
  -- Beyond the last round its stamps could not grow.
  if (call or is_kept) and state_of(index) == DEAD and round <= LAST_ROUND then -- safety: last-round
    if is_kept then
      call = '@'
      forget_reason(index)
    end
    note_stamp(index, round * ROUND)
    redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, FAILING) -- safety: dead-no-longer
    redis.call('HSET', RESEND, index, round .. ' ' .. call)
    share_life(RESEND)
    moved = moved + 1
    for _, part in ipairs({tonumber(index), round, call}) do answer[#answer + 1] = part end
  end
end
if moved > 0 then -- Redis before 7.2 takes no `-0`
  redis.call('HINCRBY', BATCH, 'dead', -moved)
  redis.call('HINCRBY', BATCH, 'failing', moved)
  redis.call('HSET', BATCH, 'resend_at', now + LEASE_FOR_SENDING_MS, 'reported_at', now)
end
conclude('claimed')
return answer
