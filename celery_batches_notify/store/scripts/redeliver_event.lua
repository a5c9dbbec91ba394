-- Make fired deliveries due again: those that were given up or are stuck, or with `ended` also those that ended.
-- KEYS: the batch. ARGV: channel; stuck | ended; after how many ms without news a published delivery is stuck; since when
-- it was given up (ms, or 0); their entries. Answer: redelivered, then entry and number … | retired | gone | newer.
-- Safe to repeat because a delivery that is due already is left to the process that has claimed it.
local which, stuck_ms, since = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local why = refusal()
if why then return {why} end
if redis.call('HEXISTS', BATCH, 'retired') == 1 then return {'retired'} end

local function may_go(entry, state, at)
  -- A task may take longer than a notification.
  local patient = redis.call('HEXISTS', BATCH, 'notifies:' .. entry) == 0 and 12 or 1 -- safety: stuck-users-task
  if state == 'published' then return at + patient * stuck_ms <= now end -- safety: stuck-minutes
  if state == 'due' then return at <= now or at > now + LEASE_MS end
  return state == 'given_up' and at >= since or which == 'ended' -- safety: delivered-on-request
end

for i = 5, #ARGV do
  local entry = ARGV[i]
  local state, _, at, number = read_entry(entry)
  if state and may_go(entry, state, at) then
    write_entry(entry, 'due', 0, now + LEASE_MS, number + 1, now + limit_of(entry))
    fired[#fired + 1] = entry
  end
end
local answer = {}
for _, entry in ipairs(conclude('redelivered')) do
  answer[#answer + 1] = entry
  if #answer > 1 then answer[#answer + 1] = select(4, read_entry(entry)) end
end
return answer
