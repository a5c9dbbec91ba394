-- Mark vanished members dead: their messages are gone, no worker runs them, and they have no result.
-- KEYS: the batch. ARGV: channel; how many failures are kept; then index, id (16 bytes), the stamp that the member
-- had when it was looked for, the failure as JSON … Answer: written off, how many, then the deliveries now due | gone |
-- newer. Safe to repeat because only a waiting or failing member without a report since then is written off.
local why = refusal()
if why then return {why} end
local GONE, written = 'its message is gone', 0

local function write_off(index, id, stamp, failure)
  local before = state_of(index)
  if before >= DEAD or not stands_at(index, id) or last_stamp(index) ~= stamp then return end -- safety: reported-meanwhile
  move_member(index, before, DEAD)
  keep_for_retry(index, before, '', GONE, 0)
  keep_failure(index, DEAD, failure, tonumber(ARGV[2]))
  tokens[#tokens + 1] = '-'
  written = written + 1
end

for i = 3, #ARGV, 4 do write_off(tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]) end
if written > 0 then
  redis.call('HSET', BATCH, 'reported_at', now)
  note_death(GONE)
end
local answer = conclude('written off')
table.insert(answer, 2, written)
return answer
