-- Make the deliveries of an event that has fired due again: those that ended, and those that wait for later.
-- KEYS: the batch. ARGV: channel; event. Answer: redelivered, then the entries | retired | gone | newer.
-- Safe to repeat because what is due now already is left to the one who has it.
local event = ARGV[2]
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end
for n = 0, callbacks_of(event) - 1 do
  local entry = event .. ':' .. n
  local state, _, due = read_entry(entry)
  if state and state ~= 'published' and (state ~= 'due' or due > now + LEASE_MS) then
    write_entry(entry, 'due', 0, now + LEASE_MS)
    fired[#fired + 1] = entry
  end
end
return conclude('redelivered')
