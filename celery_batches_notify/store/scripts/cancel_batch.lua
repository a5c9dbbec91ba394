-- Cancel a batch: its members are discarded as they arrive at workers.
-- KEYS: the batch. ARGV: channel. Answer: cancelled | already, then the deliveries now due | gone | newer.
-- Safe to repeat because a batch is cancelled once.
local why = refusal()
if why then return {why} end
if redis.call('HSETNX', BATCH, 'cancelled_at', now) == 0 then return {'already'} end
fire('cancel')
return conclude('cancelled')
