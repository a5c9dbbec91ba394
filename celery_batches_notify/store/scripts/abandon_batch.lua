-- Give up the producers of a batch where nothing has come from them for `abandon_after`: seal it.
-- KEYS: the batch. ARGV: channel. Answer: abandoned (its unconfirmed chunks are to be written off) | awaited, then
-- the deliveries now due | gone | newer.
-- Safe to repeat because a batch is sealed once, and what is unconfirmed stays so until it is written off.
local why = refusal()
if why then return {why} end
local b = redis.call('HMGET', BATCH, 'abandon_at', 'sealed_at', 'all_enrolled')
local at = tonumber(b[1] or 0)
if at == 0 or at > now then return {'awaited'} end -- safety: awaited-producer
if not b[2] then
  redis.call('HSET', BATCH, 'sealed_at', now, 'abandoned_at', now)
  -- Nobody knows which members were still to come: some work is missing for good, whatever becomes of the rest.
  if b[3] ~= '1' then redis.call('HSET', BATCH, 'cut_short', 1) end -- safety: cut-short
  if b[3] ~= '1' then note_death('abandoned') end
end
if redis.call('HLEN', UNCONFIRMED) == 0 then redis.call('HSET', BATCH, 'abandon_at', 0) end
return conclude('abandoned')
