-- Let a batch live on, as if it had moved.
-- KEYS: the batch. ARGV: channel; when the producers of its child are given up (ms since 1970), or 0.
-- Answer: renewed | gone | newer. Safe to repeat because it only prolongs.
local why = refusal()
if why then return {why} end
-- The process that fills the child may not have returned to this batch yet.
local at = tonumber(redis.call('HGET', BATCH, 'abandon_at') or 0)
if at > 0 and tonumber(ARGV[2]) > at then redis.call('HSET', BATCH, 'abandon_at', ARGV[2]) end
return conclude('renewed')
