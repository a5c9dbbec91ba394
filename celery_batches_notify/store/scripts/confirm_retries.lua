-- Record that members were sent again; a call that a later death has kept for another round stays.
-- KEYS: the batch. ARGV: channel; `more` or `done` (nothing is left to send); then index, round ….
-- Answer: confirmed | gone | newer. Safe to repeat because only the call of that round is dropped.
local why = refusal()
if why then return {why} end
for i = 3, #ARGV, 2 do
  local round = string.match(redis.call('HGET', RESEND, ARGV[i]) or '', '^(%d+) ')
  if round == ARGV[i + 1] then redis.call('HDEL', RESEND, ARGV[i]) end
end
if ARGV[2] == 'done' then redis.call('HDEL', BATCH, 'resend_at') end
return conclude('confirmed')
