-- Record that the messages of enrolled members have left, or that these members were written off.
-- KEYS: the batch. ARGV: channel; the caller (`owner`, `other`, or `sweeper`: written off); the first index of each
-- chunk …. Answer: confirmed | cancelled (confirmed, in a batch that was cancelled) | abandoned (the owner was taken
-- for dead) | gone | newer.
-- Safe to repeat because a chunk is confirmed once, by whichever caller.
local who = ARGV[2]
local why = refusal()
if why then return {why} end
-- The sweeper continues with its next sweep: only a producer that is not given up puts off the time.
local given_up = is_given_up(who)
confirm_chunks(arguments_from(3), who ~= 'sweeper' and not given_up)
local cancelled = redis.call('HEXISTS', BATCH, 'cancelled_at') == 1
return conclude(given_up and 'abandoned' or cancelled and 'cancelled' or 'confirmed')
