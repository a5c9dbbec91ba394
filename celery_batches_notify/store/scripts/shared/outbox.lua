-- Put before every script: the outbox, which holds a batch's deliveries.
local LEASE_MS, SILENT_AFTER_MS, GIVE_UP_AFTER_MS, LAST_ATTEMPT_MS =
  10000, 7 * 24 * 3600 * 1000, 27 * 3600 * 1000, 3600 * 1000

-- How many ms after it became due a delivery gets its last attempt: its own limit, or 27 hours.
local function limit_of(entry)
  return tonumber(redis.call('HGET', BATCH, 'give_up_after:' .. entry) or GIVE_UP_AFTER_MS)
end

-- One outbox entry: its state (due, published, delivered, given_up, skipped), attempts so far, and a time: when it is
-- due, when it was last heard of since it was published, or when it ended. Then the number of its present claim, which
-- a report about it must name, and the time of its last attempt, or 0 once that is under way.
local function read_entry(entry)
  local state, attempts, at, number, last_at =
    string.match(redis.call('HGET', OUTBOX, entry) or '', '^(%S+) (%d+) (%d+) ?(%d*) ?(%d*)$')
  if not state then return end
  return state, tonumber(attempts), tonumber(at), tonumber(number) or 0, tonumber(last_at) or now + limit_of(entry)
end

local function write_entry(entry, state, attempts, at, number, last_at)
  redis.call('HSET', OUTBOX, entry, string.format('%s %d %.0f %d %.0f', state, attempts, at, number, last_at))
end

-- How long a delivery may stay published without news: as long as its batch lives without any, at least a week.
local function longest_silence()
  return math.max(tonumber(redis.call('HGET', BATCH, 'expires')), SILENT_AFTER_MS)
end

-- When an open delivery needs attention: when it is due, silent for too long, or at the time of its last attempt. A
-- notification gets the last attempt even if nothing was heard of its message.
local function attention_at(entry, state, at, last_at)
  if state == 'due' then return last_at > 0 and math.min(at, last_at) or at end -- safety: due-ends
  local notifies = redis.call('HEXISTS', BATCH, 'notifies:' .. entry) == 1
  if notifies and last_at == 0 then return at + LAST_ATTEMPT_MS end -- safety: notification-ends
  return notifies and math.min(at + longest_silence(), last_at) or at + longest_silence()
end

-- Store in the batch how many deliveries are open and given up, and when the next one needs attention: the sweeper and
-- the doctor read only these fields.
local function survey_outbox()
  local count, next_due, entries = {open = 0, given_up = 0}, 0, redis.call('HGETALL', OUTBOX)
  for i = 1, #entries, 2 do
    local entry, state, _, at, _, last_at = entries[i], read_entry(entries[i])
    local is_open = state == 'due' or state == 'published'
    local kind = is_open and 'open' or state == 'given_up' and state
    if kind then count[kind] = count[kind] + 1 end
    if is_open then
      local due_at = attention_at(entry, state, at, last_at)
      if next_due == 0 or due_at < next_due then next_due = due_at end
    end
  end
  next_due = string.format('%.0f', next_due)
  redis.call('HSET', BATCH, 'open', count.open, 'given_up', count.given_up, 'next_due', next_due)
end
