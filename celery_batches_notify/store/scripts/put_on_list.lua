-- Put an entry on a list of batches with a higher score than before, so that a drop that read it earlier spares it.
-- KEYS[1]: the list. ARGV: '' (no channel); the entry; how long the list must live (ms). Answer: put.
-- Safe to repeat because an entry stands there once, and the list's life never shrinks.
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or nil)
redis.call('ZADD', KEYS[1], score and score >= now and score + 1 or now, ARGV[2]) -- safety: score-grows
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {'put'}
