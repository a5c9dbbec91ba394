-- Let one process examine a batch that has not moved for a while.
-- KEYS: the batch. ARGV: channel; the while (ms). Answer: claimed | moves (or it was examined less than a while ago) |
-- gone | newer. Safe to repeat because a second call within the while is answered with `moves`.
local why = refusal()
if why then return {why} end
local b, quiet = redis.call('HMGET', BATCH, 'reported_at', 'looked_at'), tonumber(ARGV[2])
local function is_recent(at) return at and math.abs(now - at) < quiet end
if is_recent(tonumber(b[1])) or is_recent(tonumber(b[2])) then return {'moves'} end
redis.call('HSET', BATCH, 'looked_at', now) -- safety: one-examination
return {'claimed'}
