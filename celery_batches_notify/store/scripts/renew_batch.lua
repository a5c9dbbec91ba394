-- Let a batch live on, as if it had moved.
-- KEYS: the batch. ARGV: channel. Answer: renewed | gone | newer. Safe to repeat because it changes lives only.
local why = refusal()
if why then return {why} end
return conclude('renewed')
