-- Take the deliveries that are due, so that one process at a time publishes them, and name those that are silent.
-- KEYS: the batch. ARGV: channel. Answer: claimed, then entry, attempts so far, due | silent (nothing was heard of it for
-- too long since it was published: it is to be given up) … in firing order | gone | newer.
-- Safe to repeat because a claim is a lease: what was claimed and not published is due again when it ends.
local why = refusal()
if why then return {why} end
local answer = {'claimed'}

local function claim(entry)
  local state, attempts, at = read_entry(entry)
  local word = state == 'due' and at <= now and 'due' or state == 'published' and at + patience() <= now and 'silent'
  if not word then return end
  if word == 'due' then write_entry(entry, 'due', attempts, now + LEASE_MS) end
  for _, part in ipairs({entry, attempts, word}) do answer[#answer + 1] = part end
end

for _, event in ipairs(EVENT_ORDER) do
  for n = 0, callbacks_of(event) - 1 do claim(event .. ':' .. n) end
end
claim('parent:0')
survey_outbox()
conclude('claimed')
return answer
