-- Record what happened to one delivery.
-- KEYS: the batch. ARGV: channel; entry; what happened (published | delivered | given_up | skipped | due: it failed and is
-- tried again | postponed: it was not tried, and is tried later | lost: it began and did not end, so it is tried again
-- after a wait that doubles, and given up after too many | retried: its task runs again by itself | silent: given up,
-- because nothing was heard of it for too long); attempt (from 1, or 0 for the present one); for due, postponed and lost
-- after how many ms; its note for the delivery log as JSON, or ''; the receivers that are still owed it as JSON, or '' to
-- leave them unchanged; the address that it waits for, or ''; the number of its claim, or 0 if the caller does not know it:
-- then the report is about the published message.
-- Answer: settled | given_up (by this call), attempts so far, number | repeated | unknown | gone | newer.
-- Safe to repeat because each attempt settles once; final states never change, except that `delivered` always wins.
local BECOMES = {lost = 'due', postponed = 'due', retried = 'published', silent = 'given_up'}
local entry, happened, attempt, delay, log = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local owed, waits, claim = ARGV[7], ARGV[8], tonumber(ARGV[9])
local why = refusal()
if why then return {why} end
local state, attempts, at, number, last_at = read_entry(entry)
if not state then return {'unknown'} end
local open, published = state == 'due' or state == 'published', state == 'published'
local newer, present = attempt > attempts, attempt == attempts or attempt == 0

local function is_news()
  -- The parent got a report that is out of date by now: it needs another.
  if entry == 'parent:0' and attempt ~= attempts then return false end
  if happened == 'delivered' then return state ~= 'delivered' end
  if claim > 0 and claim ~= number then return false end -- safety: present-claim
  if happened == 'published' then return newer and not published end
  if happened == 'due' then return open and (claim > 0 or newer or published and present) end -- safety: late-attempt
  if happened == 'postponed' then return open and claim > 0 end
  -- Its task may end before its publisher reports that it left.
  if happened == 'lost' and claim > 0 then return open end -- safety: lost-before-published
  if happened == 'lost' or happened == 'retried' then return published and present end
  -- safety: silent-in-time
  if happened == 'silent' then return published and present and attention_at(entry, state, at, last_at) <= now end
  return open
end

if not is_news() then return {'repeated'} end
local outcome, tried = BECOMES[happened] or happened, math.max(attempt, attempts, 1) -- safety: tried-once
if happened == 'lost' then
  if not published then tried = attempts + 1 end
  if tried >= ATTEMPTS_AT_MOST then outcome = 'given_up' end -- safety: lost-attempts
  delay = delay * 2 ^ (tried - 1)
elseif happened == 'postponed' then
  tried = attempt - 1
elseif happened == 'published' and not open then
  outcome = state -- it ended before its publisher reported: that only adds which attempt it was
end
if outcome == 'due' and last_at == 0 then outcome = 'given_up' end -- safety: last-attempt
local next_at = now
if outcome == 'due' then next_at, number = now + delay, number + 1 end -- safety: put-off-number
write_entry(entry, outcome, tried, next_at, number, last_at)
local waited = redis.call('HGET', BATCH, 'waits:' .. entry)
if waits ~= '' then
  redis.call('HSET', BATCH, 'waits:' .. entry, waits)
elseif outcome ~= 'published' then
  redis.call('HDEL', BATCH, 'waits:' .. entry)
end
if happened == 'delivered' then
  redis.call('HDEL', BATCH, 'owed:' .. entry)
elseif owed ~= '' then
  redis.call('HSET', BATCH, 'owed:' .. entry, owed) -- safety: owed-kept
end
if log ~= '' and not (happened == 'postponed' and outcome == 'due' and waited == waits) then
  local word = outcome == 'due' and (happened == 'postponed' and 'waiting' or 'failed') or outcome
  redis.call('RPUSH', DELIVERIES, string.format('%.0f %s %d %s %s', now, word, tried, entry, log))
  redis.call('LTRIM', DELIVERIES, -LOG_LENGTH, -1)
  share_life(DELIVERIES)
end
survey_outbox()
conclude('settled')
return {outcome == 'given_up' and state ~= 'given_up' and 'given_up' or 'settled', tried, number}
