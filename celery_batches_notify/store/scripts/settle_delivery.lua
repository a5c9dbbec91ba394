-- Note how far one delivery has come.
-- KEYS: the batch. ARGV: channel; entry; what happened (published | delivered | given_up | skipped | due: failed, and
-- tried again | postponed: not tried, and tried again | lost: it was begun and did not end, so it is tried again, after a
-- wait that doubles, and given up after 8 attempts | retried: its task runs again by itself | silent: given up, because
-- nothing was heard of it for too long); attempt (from 1, or 0 for the present one); for due, postponed and lost after
-- how many ms; what the delivery log adds as JSON, or ''; which receivers have not got it yet, as JSON, or '' to leave
-- that as it was.
-- Answer: settled | given_up (so it was settled, just now), attempts so far | repeated | unknown | gone | newer.
-- Safe to repeat because an attempt settles once, and what is final stays, but that an arrival always counts.
local entry, happened, attempt, delay, log = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local owed, LOG_LENGTH, ATTEMPTS_AT_MOST = ARGV[7], 100, 8
local why = refusal()
if why then return {why} end
local state, attempts, at = read_entry(entry)
if not state then return {'unknown'} end
local open, published = state == 'due' or state == 'published', state == 'published'
local newer, present = attempt > attempts, attempt == attempts or attempt == 0

local function is_news()
  -- The parent was told something that has changed since: it must be told again.
  if entry == 'parent:0' and attempt ~= attempts then return false end
  if happened == 'delivered' then return state ~= 'delivered' end
  if happened == 'published' then return newer and not published end
  if happened == 'due' or happened == 'postponed' then return open and newer or published and present end
  if happened == 'lost' or happened == 'retried' then return published and present end
  if happened == 'silent' then return published and present and at + patience() <= now end
  return open
end

if not is_news() then return {'repeated'} end
if happened == 'lost' then
  happened, delay = attempts < ATTEMPTS_AT_MOST and 'due' or 'given_up', delay * 2 ^ (attempts - 1)
end
local tried = math.max(attempt, attempts, 1)
if happened == 'published' then
  -- It may have ended before whoever published it could say so: then that only tells which attempt it was.
  write_entry(entry, open and 'published' or state, tried, open and now or 0)
elseif happened == 'retried' then
  write_entry(entry, 'published', attempts, now)
elseif happened == 'postponed' then
  -- Before its publisher could say so, its number is used up: else it would still count as published.
  happened = 'due'
  write_entry(entry, 'due', published and tried - 1 or tried, now + delay)
else
  if happened == 'silent' then happened = 'given_up' end
  write_entry(entry, happened, tried, happened == 'due' and now + delay or 0)
end
if happened == 'delivered' then
  redis.call('HDEL', BATCH, 'owed:' .. entry)
elseif owed ~= '' then
  redis.call('HSET', BATCH, 'owed:' .. entry, owed)
end
if log ~= '' then
  local outcome = happened == 'due' and 'failed' or happened
  redis.call('RPUSH', DELIVERIES, string.format('%.0f %s %d %s %s', now, outcome, tried, entry, log))
  redis.call('LTRIM', DELIVERIES, -LOG_LENGTH, -1)
  share_life(DELIVERIES)
end
survey_outbox()
conclude('settled')
return {happened == 'given_up' and 'given_up' or 'settled', tried}
