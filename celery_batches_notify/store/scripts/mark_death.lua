-- A batch below this one has a dead member: that is a death here too, which changes no state.
-- KEYS: the batch. ARGV: channel. Answer: marked, then the deliveries now due | gone | newer.
-- Safe to repeat because it only sets a flag.
local why = refusal()
if why then return {why} end
redis.call('HSETNX', BATCH, 'died', 1)
return conclude('marked')
