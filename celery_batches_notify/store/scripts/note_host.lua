-- Note how a host answered: one that failed is left alone, longer each time.
-- KEYS[1]: the host. ARGV: '' (no channel); answered | failed; how long it asked to be left alone (ms, or 0).
-- Answer: noted. Safe to repeat because a failure noted twice only makes the pause longer.
local FIRST_MS, LONGEST_MS, FORGET_MS = 5000, 3600000, 7200000
if ARGV[2] == 'answered' then
  redis.call('DEL', KEYS[1])
  return {'noted'}
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local pause = math.max(tonumber(ARGV[3]), math.min(FIRST_MS * 2 ^ math.min(failures - 1, 20), LONGEST_MS))
redis.call('HSET', KEYS[1], 'until_at', now + pause)
redis.call('PEXPIRE', KEYS[1], FORGET_MS)
return {'noted'}
