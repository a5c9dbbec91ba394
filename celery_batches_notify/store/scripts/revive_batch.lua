-- Let a retired batch be changed again, once it is back on the sweeper's list.
-- KEYS: the batch. ARGV: channel. Answer: live | gone | newer. Safe to repeat because it only clears a flag.
local why = refusal()
if why then return {why} end
redis.call('HDEL', BATCH, 'retired')
return {'live'}
