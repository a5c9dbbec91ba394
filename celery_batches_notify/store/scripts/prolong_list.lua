-- Let a list of batches live on for as long as one of them may.
-- KEYS[1]: the list. ARGV: '' (no channel); how long it must live (ms). Answer: prolonged.
-- Safe to repeat because the list's life never shrinks.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {'prolonged'}
