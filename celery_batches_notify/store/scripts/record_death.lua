-- A batch below this one has a dead member: that is a death here too, which changes no state.
-- KEYS: the batch. ARGV: channel. Answer: recorded, then the deliveries now due | retired | gone | newer.
-- Safe to repeat because it only sets a flag.
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'had_death') == 0 then
  if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end
  redis.call('HSET', BATCH, 'had_death', 1)
end
return conclude('recorded')
