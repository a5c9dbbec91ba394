-- Cancel a batch: its members are discarded as they arrive at workers.
-- KEYS: the batch. ARGV: channel. Answer: cancelled | already, then the deliveries now due | retired | gone | newer.
-- Safe to repeat because a batch is cancelled once.
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'cancelled_at') == 1 then return {'already'} end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end
redis.call('HSET', BATCH, 'cancelled_at', now)
fire('cancel')
return conclude('cancelled')
