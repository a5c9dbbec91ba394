-- Note that the messages of enrolled members have left, or that these members were written off.
-- KEYS: the batch. ARGV: channel; who says so (`owner`, `other`, or `sweeper`: written off); the first index of each
-- chunk …. Answer: confirmed | cancelled (confirmed, in a batch that was cancelled) | abandoned (the owner was taken
-- for dead) | gone | newer.
-- Safe to repeat because a chunk is confirmed once, and it does not matter by whom.
local who = ARGV[2]
local why = refusal()
if why then return {why} end
-- What the sweeper has begun goes on with the next sweep: only a producer that is still awaited puts it off.
local given_up = is_given_up(who)
confirm_chunks(arguments_from(3), who ~= 'sweeper' and not given_up)
local cancelled = redis.call('HEXISTS', BATCH, 'cancelled_at') == 1
return conclude(given_up and 'abandoned' or cancelled and 'cancelled' or 'confirmed')
