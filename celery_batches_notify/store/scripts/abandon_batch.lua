-- Seal a batch if nothing has come from its producers for `abandon_after`: they are given up.
-- KEYS: the batch. ARGV: channel. Answer: abandoned (the caller writes off its unconfirmed chunks) | awaited, then the
-- deliveries now due | gone | newer.
-- Safe to repeat because a batch is sealed once, and a chunk stays unconfirmed until it is written off.
local why = refusal()
if why then return {why} end
local b = redis.call('HMGET', BATCH, 'abandon_at', 'sealed_at', 'all_enrolled')
local at = tonumber(b[1] or 0)
if at == 0 or at > now then return {'awaited'} end -- safety: awaited-producer
if not b[2] then
  redis.call('HSET', BATCH, 'sealed_at', now, 'abandoned_at', now)
  -- Members that were not enrolled are unknown: their work is missing for good, whatever becomes of the rest.
  if b[3] ~= '1' then redis.call('HSET', BATCH, 'cut_short', 1) end -- safety: cut-short
  if b[3] ~= '1' then note_death('abandoned') end
end
if redis.call('HLEN', UNCONFIRMED) == 0 then redis.call('HSET', BATCH, 'abandon_at', 0) end
return conclude('abandoned')
