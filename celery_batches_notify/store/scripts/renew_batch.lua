-- Let a batch live on, as if it had moved.
-- KEYS: the batch. ARGV: channel; when the producers of its child are given up (ms since 1970), or 0.
-- Answer: renewed | gone | newer. Safe to repeat because it changes lives only.
local why = refusal()
if why then return {why} end
-- Who fills the child may not have come back to this one yet.
local at = tonumber(redis.call('HGET', BATCH, 'abandon_at') or 0)
if at > 0 and tonumber(ARGV[2]) > at then redis.call('HSET', BATCH, 'abandon_at', ARGV[2]) end
return conclude('renewed')
