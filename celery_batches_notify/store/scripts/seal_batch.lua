-- Say that no more members come from outside; from here on events can fire.
-- KEYS: the batch. ARGV: channel. Answer: sealed | already | abandoned (its producer was taken for dead), then the
-- deliveries now due | gone | newer.
-- Safe to repeat because a batch is sealed once.
local why = refusal()
if why then return {why} end
if is_given_up('owner') then return {'abandoned'} end
if redis.call('HSETNX', BATCH, 'sealed_at', now) == 0 then return {'already'} end
await_producers()
return conclude('sealed')
