-- Store a new batch, with no member yet.
-- KEYS: the batch. ARGV: channel; after how many ms its first watch ends, or 0; its callbacks as JSON, or ''; then
-- field, value … of its hash, in which expires, dead_expires and linger are ms. Answer: opened | exists.
-- Safe to repeat because a batch that exists stays as it is.
if redis.call('EXISTS', BATCH) == 1 then return {'exists'} end
redis.call('HSET', BATCH, 'schema', SCHEMA, 'created_at', now, 'reported_at', now,
  'watch_at', tonumber(ARGV[2]) > 0 and now + ARGV[2] or 0, 'total', 0, 'succeeded', 0, 'failing', 0, 'dead', 0, unpack(ARGV, 4))
-- Not in the hash: a long value there would make each of its fields take four times as much.
if ARGV[3] ~= '' then redis.call('SET', CALLBACKS, ARGV[3]) end
await_producers()
renew(false, false)
return {'opened'}
