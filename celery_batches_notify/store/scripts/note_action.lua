-- Note in the batch what somebody did to it by hand: the last 100 such notes are kept.
-- KEYS: the batch. ARGV: channel; the note as JSON. Answer: noted | gone | newer.
-- Safe to repeat because a note that is made twice is only read twice.
local KEPT = 100
local why = refusal()
if why then return {why} end
local number = redis.call('HINCRBY', BATCH, 'actions', 1)
redis.call('HSET', BATCH, 'action:' .. number % KEPT, string.format('%d %.0f %s', number, now, ARGV[2]))
return {'noted'}
