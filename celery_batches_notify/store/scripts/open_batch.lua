-- Store a new batch, with no member yet.
-- KEYS: the batch. ARGV: channel, then field, value … of its hash (lives in ms: expires, dead_expires, linger).
-- Answer: opened | exists. Safe to repeat because a batch that exists is left as it is.
if redis.call('EXISTS', BATCH) == 1 then return {'exists'} end
redis.call('HSET', BATCH, 'schema', SCHEMA, 'created_at', now, 'reported_at', now,
  'total', 0, 'succeeded', 0, 'failing', 0, 'dead', 0, unpack(ARGV, 2))
renew(false, false)
return {'opened'}
