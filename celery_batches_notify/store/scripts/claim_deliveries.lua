-- Take the deliveries that are due, so that one process at a time publishes them.
-- KEYS: the batch. ARGV: channel. Answer: claimed, then entry, attempts so far … in firing order | gone | newer.
-- Safe to repeat because a claim is a lease: what was claimed and not published is due again when it ends.
local why = refusal()
if why then return {why} end
local answer = {'claimed'}

local function claim(entry)
  local state, attempts, due = read_entry(entry)
  if state == 'due' and due <= now then
    write_entry(entry, 'due', attempts, now + LEASE_MS)
    answer[#answer + 1] = entry
    answer[#answer + 1] = attempts
  end
end

for _, event in ipairs(EVENT_ORDER) do
  for n = 0, callbacks_of(event) - 1 do claim(event .. ':' .. n) end
end
claim('parent:0')
survey_outbox()
conclude('claimed')
return answer
