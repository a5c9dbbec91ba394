-- Note how far one delivery has come.
-- KEYS: the batch. ARGV: channel; entry; what happened (published | delivered | given_up | skipped | due: failed, and
-- tried again | postponed: not tried, and tried again | lost: it was begun and did not end, so it is tried again, after a
-- wait that doubles, and given up after 8 attempts | retried: its task runs again by itself | silent: given up, because
-- nothing was heard of it for too long); attempt (from 1, or 0 for the present one); for due, postponed and lost after
-- how many ms; what the delivery log adds as JSON, or ''; which receivers have not got it yet, as JSON, or '' to leave
-- that as it was; the address that it waits for, or ''; the number of the claim that it was made under, or 0 for a
-- report that knows none, which is about what is published.
-- Answer: settled | given_up (so it was settled, just now), attempts so far, number | repeated | unknown | gone | newer.
-- Safe to repeat because an attempt settles once, and what is final stays, but that an arrival always counts.
local entry, happened, attempt, delay, log = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local owed, waits, claim, LOG_LENGTH, ATTEMPTS_AT_MOST = ARGV[7], ARGV[8], tonumber(ARGV[9]), 100, 8
local why = refusal()
if why then return {why} end
local state, attempts, at, number, last_at = read_entry(entry)
if not state then return {'unknown'} end
local open, published = state == 'due' or state == 'published', state == 'published'
local newer, present = attempt > attempts, attempt == attempts or attempt == 0

local function is_news()
  -- The parent was told something that has changed since: it must be told again.
  if entry == 'parent:0' and attempt ~= attempts then return false end
  if happened == 'delivered' then return state ~= 'delivered' end
  if claim > 0 and claim ~= number then return false end -- safety: present-claim
  if happened == 'published' then return newer and not published end
  if happened == 'due' then return open and (claim > 0 or newer or published and present) end -- safety: late-attempt
  if happened == 'postponed' then return open and claim > 0 end
  -- Its task may end before its publisher says that it left.
  if happened == 'lost' and claim > 0 then return open end -- safety: lost-before-published
  if happened == 'lost' or happened == 'retried' then return published and present end
  -- safety: silent-in-time
  if happened == 'silent' then return published and present and look_at(entry, state, at, last_at) <= now end
  return open
end

if not is_news() then return {'repeated'} end
local outcome, tried = happened, math.max(attempt, attempts, 1) -- safety: tried-once
if happened == 'lost' then
  if not published then tried = attempts + 1 end
  outcome, delay = tried < ATTEMPTS_AT_MOST and 'due' or 'given_up', delay * 2 ^ (tried - 1) -- safety: lost-attempts
elseif happened == 'postponed' then
  outcome, tried = 'due', attempt - 1
elseif happened == 'silent' then
  outcome = 'given_up'
elseif happened == 'retried' then
  outcome = 'published'
elseif happened == 'published' and not open then
  outcome = state -- it ended before whoever published it could say so: then that only tells which attempt it was
end
if outcome == 'due' and last_at == 0 then outcome = 'given_up' end -- safety: last-attempt
local ends = outcome ~= 'due' and outcome ~= 'published'
-- safety: put-off-number
write_entry(entry, outcome, tried, outcome == 'due' and now + delay or now, outcome == 'due' and number + 1 or number, last_at)
local waited = redis.call('HGET', BATCH, 'waits:' .. entry)
if waits ~= '' then
  redis.call('HSET', BATCH, 'waits:' .. entry, waits)
elseif ends or outcome == 'due' then
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
return {outcome == 'given_up' and state ~= 'given_up' and 'given_up' or 'settled', tried, outcome == 'due' and number + 1 or number}
