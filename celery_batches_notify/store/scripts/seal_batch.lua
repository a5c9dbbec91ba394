-- Seal a batch: no more members come from outside, and from here on events can fire.
-- KEYS: the batch. ARGV: channel; the first index of each chunk to confirm, as `confirm_members` does ….
-- Answer: sealed | already | abandoned (its producer was taken for dead), then the deliveries now due | gone | newer.
-- Safe to repeat because a batch is sealed once, and a chunk is confirmed once.
local why = refusal()
if why then return {why} end
local given_up = is_given_up('owner')
local sealed = not given_up and redis.call('HSETNX', BATCH, 'sealed_at', now) == 1
if not sealed and #ARGV == 1 then return {given_up and 'abandoned' or 'already'} end
confirm_chunks(arguments_from(2), not given_up)
return conclude(given_up and 'abandoned' or sealed and 'sealed' or 'already')
