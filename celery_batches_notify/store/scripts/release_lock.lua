-- Release a lock for the next process.
-- KEYS[1]: the lock. ARGV: '' (no channel); the holder. Answer: released | taken (another holds it, or it is free).
-- Safe to repeat because only the holder releases it.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return {'taken'} end
redis.call('DEL', KEYS[1])
return {'released'}
