-- Take a lock, or keep it for longer.
-- KEYS[1]: the lock. ARGV: '' (no channel); who asks; how long it is held (ms). Answer: held | taken (by another).
-- Safe to repeat because its holder only gets more time. A lock that would live longer than anyone takes it for is left
-- from before the clock was set back.
local holder, life = redis.call('GET', KEYS[1]), tonumber(ARGV[3])
if holder and holder ~= ARGV[2] and redis.call('PTTL', KEYS[1]) <= life then return {'taken'} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {'held'}
