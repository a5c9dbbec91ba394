-- Take the deliveries that are due, so that one process at a time publishes them, and name the silent ones.
-- KEYS: the batch. ARGV: channel; then, to take a single delivery that waits, even if it is not due: its entry, and for
-- how long it is taken (ms). Answer: claimed, then entry, attempts so far, due | last (it gets its last attempt) | silent
-- (nothing was heard of it for too long since it was published: the caller gives it up), number … in firing order | gone |
-- newer. Safe to repeat because a claim is a lease: a delivery that was not published is due again when it ends.
local one, lease = ARGV[2], tonumber(ARGV[3] or LEASE_MS)
local why = refusal()
if why then return {why} end
local answer = {'claimed'}

local function claim(entry)
  local state, attempts, at, number, last_at = read_entry(entry)
  if state ~= 'due' and (one or state ~= 'published') then return end
  if not one and attention_at(entry, state, at, last_at) > now then return end
  local word = 'due'
  if state == 'published' and (last_at == 0 or at + longest_silence() <= now) then word = 'silent' end -- safety: silent-given-up
  if word == 'due' then
    if entry ~= 'parent:0' and last_at <= now then word, last_at = 'last', 0 end
    -- If it was published under its last claim, nothing was heard of that attempt, which counts.
    write_entry(entry, 'due', attempts, now + lease, number + 1, last_at) -- safety: claim-lease
    number = number + 1
  end
  for _, part in ipairs({entry, attempts, word, number}) do answer[#answer + 1] = part end
end

for _, event in ipairs(EVENT_ORDER) do
  for n = 0, one and -1 or callbacks_of(event) - 1 do claim(event .. ':' .. n) end
end
claim(one or 'parent:0')
if not one then claim('trace:0') end -- safety: trace-left-behind
survey_outbox()
conclude('claimed')
return answer
