-- Put before every script: the names of a batch's keys, and the one place that decides which events are true.
-- KEYS: the batch's keys as `keys.py` lists them. ARGV[1]: the channel of the batch. Times are milliseconds.
local BATCH, STATES, MEMBERS, ATTEMPTS, LATE, NAMES, FAILURES, RESEND, CHILDREN, OUTBOX, DELIVERIES,
  UNCONFIRMED, CALLS = unpack(KEYS)
local CHANNEL = ARGV[1]
local WAITING, FAILING, DEAD, SUCCEEDED = 0, 1, 2, 3
local SCHEMA, ID_BYTES, LEASE_MS, CALLBACKS_AT_MOST = 1, 16, 10000, 32
local SILENT_AFTER_MS, GIVE_UP_AFTER_MS, LAST_ATTEMPT_MS = 7 * 24 * 3600 * 1000, 27 * 3600 * 1000, 3600 * 1000
local EVENT_ORDER = {'cancel', 'deadline', 'stall', 'progress', 'death', 'complete', 'finish', 'success'}

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local tokens, fired = {}, {}

-- Why this script must not touch the batch, or nil.
local function refusal()
  local schema = redis.call('HGET', BATCH, 'schema')
  if not schema then return 'gone' end -- safety: gone-no-key
  if tonumber(schema) > SCHEMA then return 'newer' end -- safety: newer-schema
end

local function state_of(index)
  return redis.call('BITFIELD', STATES, 'GET', 'u2', '#' .. index)[1]
end

-- Give a key that may just have been made the life that the batch has.
local function share_life(key)
  if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, redis.call('PTTL', BATCH)) end -- safety: key-life
end

-- How many ms after it became due a delivery gets its last attempt: its own limit, or 27 hours.
local function limit_of(entry)
  return tonumber(redis.call('HGET', BATCH, 'give_up_after:' .. entry) or GIVE_UP_AFTER_MS)
end

-- One outbox entry: its state (due, published, delivered, given_up, skipped), attempts so far, and a time: when it is
-- due, when it was last heard of since it was published, or when it ended. Then the number of its present claim: only
-- who has that may say how it goes on. Last the time of its last attempt, or 0 once that is under way.
local function read_entry(entry)
  local state, attempts, at, number, last_at =
    string.match(redis.call('HGET', OUTBOX, entry) or '', '^(%S+) (%d+) (%d+) ?(%d*) ?(%d*)$')
  if not state then return end
  return state, tonumber(attempts), tonumber(at), tonumber(number) or 0, tonumber(last_at) or now + limit_of(entry)
end

local function write_entry(entry, state, attempts, at, number, last_at)
  redis.call('HSET', OUTBOX, entry, string.format('%s %d %.0f %d %.0f', state, attempts, at, number, last_at))
end

-- How long a delivery may stay published without news: as long as its batch lives without any, a week at least.
local function patience()
  return math.max(tonumber(redis.call('HGET', BATCH, 'expires')), SILENT_AFTER_MS)
end

-- When an open delivery needs somebody: when it is due, silent for too long, or at the time of its last attempt, which
-- a notification also gets whose message is not heard of.
local function look_at(entry, state, at, last_at)
  if state == 'due' then return last_at > 0 and math.min(at, last_at) or at end -- safety: due-ends
  local notifies = redis.call('HEXISTS', BATCH, 'notifies:' .. entry) == 1
  if notifies and last_at == 0 then return at + LAST_ATTEMPT_MS end -- safety: notification-ends
  return notifies and math.min(at + patience(), last_at) or at + patience()
end

-- Note in the batch how many deliveries are open and given up, and when the next one needs somebody: the sweeper and
-- the doctor read only that.
local function survey_outbox()
  local count, next_due, entries = {open = 0, given_up = 0}, 0, redis.call('HGETALL', OUTBOX)
  for i = 1, #entries, 2 do
    local entry, state, _, at, _, last_at = entries[i], read_entry(entries[i])
    local is_open = state == 'due' or state == 'published'
    local kind = is_open and 'open' or state == 'given_up' and state
    if kind then count[kind] = count[kind] + 1 end
    if is_open then
      local look = look_at(entry, state, at, last_at)
      if next_due == 0 or look < next_due then next_due = look end
    end
  end
  next_due = string.format('%.0f', next_due)
  redis.call('HSET', BATCH, 'open', count.open, 'given_up', count.given_up, 'next_due', next_due)
end

local function announce(entry, version)
  local _, _, _, number = read_entry(entry)
  -- safety: outbox-filled
  write_entry(entry, 'due', version or 0, now + LEASE_MS, (number or 0) + 1, version and 0 or now + limit_of(entry))
  fired[#fired + 1] = entry
end

-- How many callbacks an event has. No more than `on()` takes, whatever stands there: it is looped over.
local function callbacks_of(event)
  return math.min(tonumber(redis.call('HGET', BATCH, 'callbacks:' .. event) or 0), CALLBACKS_AT_MOST)
end

local function fire(event, token)
  if redis.call('HSETNX', BATCH, event .. '_at', now) == 0 then return end -- safety: event-once
  for n = 0, callbacks_of(event) - 1 do announce(event .. ':' .. n) end
  if token then tokens[#tokens + 1] = token end
end

-- Fire those callbacks of an event that have a threshold of their own, once each: holds(threshold) says which.
local function fire_each(event, holds)
  for n = 0, callbacks_of(event) - 1 do
    local entry = event .. ':' .. n
    if redis.call('HEXISTS', OUTBOX, entry) == 0 and holds(tonumber(redis.call('HGET', BATCH, 'at:' .. entry))) then
      redis.call('HSETNX', BATCH, event .. '_at', now)
      announce(entry)
    end
  end
end

-- A child is a member of its parent: whenever what it is there has changed, the parent must be told (`parent:0`).
-- It does not wait again, though members that its own running ones add do.
local function tell_parent(state, died)
  local word = state .. (died and ':died' or '')
  if word == (redis.call('HGET', BATCH, 'told') or '0') then return end
  redis.call('HSET', BATCH, 'told', word)
  announce('parent:0', redis.call('HINCRBY', BATCH, 'tellings', 1))
end

-- Every key lives as long as the batch: `expires` after it last moved, while it runs or a delivery is open;
-- `dead_expires` after its end with dead members; `linger` after its success.
local function renew(ended, succeeded)
  local life = redis.call('HMGET', BATCH, 'open', 'life', 'expires', 'dead_expires', 'linger')
  local kind, length = 'running', tonumber(life[3])
  if ended and tonumber(life[1] or 0) == 0 then -- safety: open-delivery
    if succeeded then kind, length = 'success', tonumber(life[5]) else kind, length = 'dead', tonumber(life[4]) end
  end
  if kind == life[2] and (kind ~= 'running' or redis.call('PTTL', BATCH) * 2 > length) then return end
  redis.call('HSET', BATCH, 'life', kind)
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, length) end
end

-- The last line of every script that changes a batch: decide, renew, and tell. A channel that an ACL denies
-- changes nothing, for tokens come last and through pcall.
local function conclude(answer)
  local b = redis.call('HMGET', BATCH, 'total', 'succeeded', 'failing', 'dead', 'sealed_at', 'died', 'parent_bid',
    'callbacks:progress', 'cut_short')
  local total, succeeded, dead = tonumber(b[1]), tonumber(b[2]), tonumber(b[4])
  local sealed, died = b[5] and true or false, b[6] and true or false
  local complete = sealed and succeeded + tonumber(b[3]) + dead == total -- safety: complete
  local ended = sealed and succeeded + dead == total
  local success = ended and dead == 0 and not b[9] -- [9] cut short: calls were never made
  if sealed and (b[8] or '0') ~= '0' then
    -- A quotient, because 0.55 * 100 is more than 55, while 55 / 100 is 0.55.
    local ended_share = total == 0 and 1 or (succeeded + dead) / total
    fire_each('progress', function(share) return ended_share >= share end)
  end
  if sealed and died then fire('death') end
  if complete then fire('complete', '!') end
  if ended then fire('finish') end
  if success then fire('success', '$') end
  if b[7] then
    local has_run = redis.call('HEXISTS', BATCH, 'complete_at') == 1
    tell_parent(success and SUCCEEDED or ended and DEAD or has_run and FAILING or WAITING, died)
  end
  if #fired > 0 then -- also what `redeliver_event` made due
    survey_outbox()
    share_life(OUTBOX)
  end
  renew(ended, success)
  for _, token in ipairs(tokens) do redis.pcall('PUBLISH', CHANNEL, token) end -- safety: channel-denied
  return {answer, unpack(fired)}
end
