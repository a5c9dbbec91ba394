-- Keep the calls of members until they have succeeded, so that they can be sent again.
-- KEYS: the batch. ARGV: channel; then index, call … Answer: kept | gone | newer.
-- Safe to repeat because a member's call stays the same.
local why = refusal()
if why then return {why} end
for i = 2, #ARGV, 2 do redis.call('HSET', CALLS, ARGV[i], ARGV[i + 1]) end
share_life(CALLS)
return {'kept'}
