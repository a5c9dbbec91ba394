-- Claim dead members for another round, so that only the first caller sends them again.
-- KEYS: the batch. ARGV: channel; indexes …. Answer: claimed, then index, round, call (`@`: it lies in CALLS) … |
-- cancelled | retired | gone | newer. Safe to repeat because the move from dead to failing is the claim.
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'cancelled'} end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end
local answer = {'claimed'}
for _, index in ipairs(arguments_from(2)) do
  local call = string.match(redis.call('HGET', RESEND, index) or '', '^0 (.*)$')
  if not call and redis.call('HEXISTS', CALLS, index) == 1 then call = '@' end -- safety: kept-call-resent
  local round = round_of(last_stamp(index)) + 1
  -- Beyond the last round its stamps could not grow.
  if call and state_of(index) == DEAD and round <= LAST_ROUND then -- safety: last-round
    move_member(index, DEAD, FAILING) -- safety: dead-no-longer
    begin_round(index, round, call)
    for _, part in ipairs({tonumber(index), round, call}) do answer[#answer + 1] = part end
  end
end
conclude('claimed')
return answer
