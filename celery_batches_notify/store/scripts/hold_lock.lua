-- Take a lock, or keep it for longer.
-- KEYS[1]: the lock. ARGV: '' (no channel); who asks; how long it is held (ms). Answer: held | taken (by another).
-- Safe to repeat because its holder only gets more time.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[2] then return {'taken'} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {'held'}
