-- Drop a bid from the sweeper's list, unless somebody put it there anew meanwhile.
-- KEYS[1]: the list. ARGV: '' (no channel); bid; the score it was read with. Answer: dropped | kept.
-- Safe to repeat because a bid that is gone stays gone.
local score = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not score or tonumber(score) ~= tonumber(ARGV[3]) then return {'kept'} end
redis.call('ZREM', KEYS[1], ARGV[2])
return {'dropped'}
