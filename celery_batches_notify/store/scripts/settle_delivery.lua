-- Note how far one delivery has come.
-- KEYS: the batch. ARGV: channel; entry; what happened (published | delivered | due | given_up); attempt (from 1,
-- or 0 for the present one); for `due`, after how many ms. Answer: settled | repeated | unknown | gone | newer.
-- Safe to repeat because an attempt settles once, and delivered and given up are final.
local entry, happened, attempt, delay = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local why = refusal()
if why then return {why} end
local state, attempts = read_entry(entry)
if not state then return {'unknown'} end
local final = state == 'delivered' or state == 'given_up'
if state == happened and happened ~= 'due' or final and happened ~= 'delivered' then return {'repeated'} end
if happened == 'published' and attempt <= attempts then return {'repeated'} end
if happened == 'due' and state == 'due' and attempt <= attempts then return {'repeated'} end
write_entry(entry, happened, math.max(attempt, attempts), happened == 'due' and now + delay or 0)
survey_outbox()
return conclude('settled')
