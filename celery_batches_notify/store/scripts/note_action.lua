-- Note in the batch what somebody did to it by hand: the last 100 such notes are kept.
-- KEYS: the batch. ARGV: channel; the note as JSON, which no other note equals. Answer: noted | gone | newer.
-- Safe to repeat because the note that was made last is not made again.
local KEPT = 100
local note = ARGV[2]
local why = refusal()
if why then return {why} end
local number = tonumber(redis.call('HGET', BATCH, 'actions') or 0)
local last = redis.call('HGET', BATCH, 'action:' .. number % KEPT) or ''
if string.match(last, '^%d+ %d+ (.*)$') == note then return {'noted'} end
number = redis.call('HINCRBY', BATCH, 'actions', 1)
redis.call('HSET', BATCH, 'action:' .. number % KEPT, string.format('%d %.0f ', number, now) .. note)
return {'noted'}
