-- Take a batch that has ended, with nothing left to deliver, off the sweeper's list.
-- KEYS: the batch. ARGV: channel. Answer: retired | live | gone | newer. Safe to repeat because it only sets a
-- flag; what would change a retired batch is refused until `revive_batch`, so nobody is missed.
local why = refusal()
if why then return {why} end
local c, open_deliveries = counts('open')
if not c.ended or tonumber(open_deliveries or 0) > 0 then return {'live'} end
redis.call('HSET', BATCH, 'retired', 1)
return {'retired'}
