-- Put before every script: the one place that decides which events are true.
local EVENT_ORDER = {'cancel', 'deadline', 'stall', 'progress', 'death', 'complete', 'finish', 'success'}

local function announce(entry, version)
  local _, _, _, number = read_entry(entry)
  -- safety: outbox-filled
  write_entry(entry, 'due', version or 0, now + LEASE_MS, (number or 0) + 1, version and 0 or now + limit_of(entry))
  fired[#fired + 1] = entry
end

-- How many callbacks an event has, at most as many as `on()` takes, because scripts loop over them.
local function callbacks_of(event)
  return math.min(tonumber(redis.call('HGET', BATCH, 'callbacks:' .. event) or 0), CALLBACKS_AT_MOST)
end

local function fire(event, token)
  if redis.call('HSETNX', BATCH, event .. '_at', now) == 0 then return end -- safety: event-once
  for n = 0, callbacks_of(event) - 1 do announce(event .. ':' .. n) end
  if token then tokens[#tokens + 1] = token end
  return true
end

-- Fire the callbacks of an event that have thresholds of their own, once each: holds(threshold) says which.
local function fire_each(event, holds)
  for n = 0, callbacks_of(event) - 1 do
    local entry = event .. ':' .. n
    if redis.call('HEXISTS', OUTBOX, entry) == 0 and holds(tonumber(redis.call('HGET', BATCH, 'at:' .. entry))) then
      redis.call('HSETNX', BATCH, event .. '_at', now)
      announce(entry)
    end
  end
end

-- A child is a member of its parent: whenever its state there changes, that is reported to the parent (`parent:0`).
-- A child that has run does not wait again, even if its running members add others, which wait.
local function report_to_parent(state, had_death)
  local word = state .. (had_death and ':death' or '')
  if word == (redis.call('HGET', BATCH, 'parent_state') or '0') then return end
  redis.call('HSET', BATCH, 'parent_state', word)
  announce('parent:0', redis.call('HINCRBY', BATCH, 'parent_version', 1))
end

-- Every key lives as long as the batch: for `expires` after it last moved, while it runs or a delivery is open; for
-- `dead_expires` after it ended with dead members; for `linger` after its success.
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

-- Members that are discarded with their batch do not count as a death.
local function note_death(reason)
  local discards = {revoked = true, terminated = true, abandoned = true,
    ['never published'] = true, ['its message is gone'] = true}
  local is_discarded = discards[reason] and redis.call('HEXISTS', BATCH, 'cancelled_at') == 1
  if reason ~= 'cancelled' and not is_discarded then redis.call('HSETNX', BATCH, 'had_death', 1) end
end

-- For metrics and traces: how many members are dead now, and that the batch's span is due.
local function note_end(dead)
  if dead > 0 then redis.call('HSET', BATCH, 'dead_at_finish', dead) end
  if redis.call('HEXISTS', BATCH, 'trace') == 1 then announce('trace:0') end
end

-- The last line of every script that changes a batch: decide, renew, and publish. A channel that an ACL denies
-- changes nothing, because tokens come last and through pcall.
local function conclude(answer)
  local c, had_death, parent_bid, shares, complete_at =
    counts('had_death', 'parent_bid', 'callbacks:progress', 'complete_at')
  note_mark(BATCH, CURVE, c.total, c.succeeded + c.dead, now)
  if c.is_sealed and (shares or '0') ~= '0' then
    -- A quotient, because 0.55 * 100 is more than 55, while 55 / 100 is 0.55.
    local ended_share = c.total == 0 and 1 or (c.succeeded + c.dead) / c.total
    fire_each('progress', function(share) return ended_share >= share end)
  end
  if c.is_sealed and had_death then fire('death') end
  if c.complete then fire('complete', '!') end
  if c.ended and fire('finish') then note_end(c.dead) end
  if c.success then fire('success', '$') end
  if parent_bid then
    local has_run = c.complete or complete_at
    report_to_parent(c.success and SUCCEEDED or c.ended and DEAD or has_run and FAILING or WAITING, had_death)
  end
  if #fired > 0 then -- also what `redeliver_event` made due
    survey_outbox()
    share_life(OUTBOX)
  end
  renew(c.ended, c.success)
  for _, token in ipairs(tokens) do redis.pcall('PUBLISH', CHANNEL, token) end -- safety: channel-denied
  return {answer, unpack(fired)}
end
