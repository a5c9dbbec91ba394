-- Take a lock, or keep it for longer.
-- KEYS[1]: the lock. ARGV: '' (no channel); the holder, which ends in `:` and how long it holds the lock; that time (ms).
-- Answer: held | taken (by another). Safe to repeat because its holder only gets more time. If the lock lives longer than
-- its holder asked for, the clock was set back since, and the lock is free.
local holder = redis.call('GET', KEYS[1])
local life = holder and tonumber(string.match(holder, ':(%d+)$') or nil)
local is_left = life and redis.call('PTTL', KEYS[1]) > life -- safety: lock-clock
if holder and holder ~= ARGV[2] and not is_left then return {'taken'} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {'held'}
