-- Retire a batch that has ended and has nothing left to deliver, so that it can leave the sweeper's list.
-- KEYS: the batch. ARGV: channel. Answer: retired | live | gone | newer. Safe to repeat because it only sets a flag.
-- Scripts that would change a retired batch are refused until `revive_batch`, so no change is missed.
local why = refusal()
if why then return {why} end
local c, open_deliveries = counts('open')
if not c.ended or tonumber(open_deliveries or 0) > 0 then return {'live'} end
redis.call('HSET', BATCH, 'retired', 1)
return {'retired'}
