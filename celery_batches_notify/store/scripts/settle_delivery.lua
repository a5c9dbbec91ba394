-- Note how far one delivery has come.
-- KEYS: the batch. ARGV: channel; entry; what happened (published | delivered | given_up | skipped | due: failed,
-- and tried again | postponed: not tried, and tried again | lost with its worker: due, or given up after 8 attempts);
-- attempt (from 1, or 0 for the present one); for due and postponed after how many ms; what the delivery log says as
-- JSON, or ''; which receivers have not got it yet, as JSON, or '' to leave that as it was.
-- Answer: settled | repeated | unknown | gone | newer.
-- Safe to repeat because an attempt settles once, and what is final stays, but that an arrival always counts.
local entry, happened, attempt, delay, log = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local owed, LOG_LENGTH, LOST_AT_MOST = ARGV[7], 100, 8
local why = refusal()
if why then return {why} end
local state, attempts = read_entry(entry)
if not state then return {'unknown'} end
-- The parent was told something that has changed since: it must be told again.
if entry == 'parent:0' and attempt ~= attempts then return {'repeated'} end
if happened == 'lost' then
  if state ~= 'published' then return {'repeated'} end
  happened = attempts < LOST_AT_MOST and 'due' or 'given_up'
end
local open = state == 'due' or state == 'published'
if state == happened and happened ~= 'due' or not open and happened ~= 'delivered' then return {'repeated'} end
if (happened == 'due' or happened == 'postponed') and attempt > 0 and attempt < attempts then return {'repeated'} end
if happened == 'published' and attempt <= attempts then return {'repeated'} end
if happened == 'due' and state == 'due' and attempt <= attempts then return {'repeated'} end
if happened == 'postponed' and state == 'due' then return {'repeated'} end
if happened == 'postponed' then
  write_entry(entry, 'due', attempt - 1, now + delay)
else
  write_entry(entry, happened, math.max(attempt, attempts), happened == 'due' and now + delay or 0)
end
if happened == 'delivered' then
  redis.call('HDEL', BATCH, 'owed:' .. entry)
elseif owed ~= '' then
  redis.call('HSET', BATCH, 'owed:' .. entry, owed)
end
if log ~= '' then
  redis.call('RPUSH', DELIVERIES, string.format('%.0f %s', now, log))
  redis.call('LTRIM', DELIVERIES, -LOG_LENGTH, -1)
  share_life(DELIVERIES)
end
survey_outbox()
return conclude('settled')
