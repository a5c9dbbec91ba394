-- Take a batch that has ended, with nothing left to deliver, off the sweeper's list.
-- KEYS: the batch. ARGV: channel. Answer: retired | live | gone | newer. Safe to repeat because it only sets a
-- flag; what would change a retired batch is refused until `revive_batch`, so nobody is missed.
local why = refusal()
if why then return {why} end
local b = redis.call('HMGET', BATCH, 'sealed_at', 'total', 'succeeded', 'dead', 'open')
if not b[1] or b[3] + b[4] < tonumber(b[2]) or tonumber(b[5] or 0) > 0 then return {'live'} end
redis.call('HSET', BATCH, 'retired', 1)
return {'retired'}
