-- Claim dead members for another round, so that whoever asks first sends them again.
-- KEYS: the batch. ARGV: channel; indices …. Answer: claimed, then index, round, what to send … | cancelled | gone |
-- newer. Safe to repeat because the move from dead to failing is the claim.
local LEASE_FOR_SENDING_MS, ROUND, LAST_ROUND = 60000, 4096, 15
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'cancelled'} end
local answer, moved = {'claimed'}, 0
for i = 2, #ARGV do
  local index = ARGV[i]
  local call = string.match(redis.call('HGET', RESEND, index) or '', '^0 (.*)$')
  if call and state_of(index) == DEAD then
    local high, low = string.byte(redis.call('GETRANGE', ATTEMPTS, index * 2, index * 2 + 1), 1, 2)
    local round = math.min(math.floor(((high or 0) * 256 + (low or 0)) / ROUND) + 1, LAST_ROUND)
    redis.call('SETRANGE', ATTEMPTS, index * 2, string.char(round * ROUND / 256, 0))
    redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, FAILING)
    redis.call('HSET', RESEND, index, round .. ' ' .. call)
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
