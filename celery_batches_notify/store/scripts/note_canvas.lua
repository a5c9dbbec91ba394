-- Record that members of the batch carry further members: links of a chain, a chord's body, callbacks.
-- KEYS: the batch. ARGV: channel. Answer: noted | gone | newer. Safe to repeat because it only sets a flag.
local why = refusal()
if why then return {why} end
redis.call('HSET', BATCH, 'canvas', 1)
return {'noted'}
