-- Let the next one have a lock.
-- KEYS[1]: the lock. ARGV: '' (no channel); who asks. Answer: released | taken (by another, or by nobody).
-- Safe to repeat because only its holder's is released.
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return {'taken'} end
redis.call('DEL', KEYS[1])
return {'released'}
