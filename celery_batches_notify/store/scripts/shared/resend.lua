-- Put after `members.lua`: what becomes of members that failed for good. RESEND says whether they can be sent again:
-- `0 call`; `round call` while they are sent; or `- why` if they cannot be. It holds a limited number of calls and of
-- reasons; if a dead task has neither, too many were dead. The batch's fields `unsendable:why` count the dead members
-- that cannot be sent again.
local TOO_MANY, REASONS_AT_MOST = 'too many dead', 1000

local function count_unsendable(why, by)
  if redis.call('HINCRBY', BATCH, 'unsendable:' .. why, by) < 1 then redis.call('HDEL', BATCH, 'unsendable:' .. why) end
end

-- Uncount a member among those that cannot be sent again: it is not dead any more, or its call is kept now.
local function forget_reason(index)
  local held = redis.call('HGET', RESEND, index)
  local why = held and string.match(held, '^%- (.*)$')
  if why then
    redis.call('HDEL', RESEND, index)
    redis.call('HINCRBY', BATCH, 'reasons', -1)
  elseif held or redis.call('HEXISTS', CHILDREN, index) == 1 then
    return
  end
  count_unsendable(why or TOO_MANY, -1)
end

local function keep_reason(index, why)
  local reasons = tonumber(redis.call('HGET', BATCH, 'reasons') or 0)
  if why ~= TOO_MANY and reasons < REASONS_AT_MOST then
    redis.call('HSET', RESEND, index, '- ' .. why)
    redis.call('HSET', BATCH, 'reasons', reasons + 1)
    share_life(RESEND)
  else
    redis.call('HDEL', RESEND, index)
    why = TOO_MANY
  end
  count_unsendable(why, 1)
end

-- Drop the call that an earlier round kept of a member without a round left; return whether one was kept.
local function void_call(index)
  return string.sub(redis.call('HGET', RESEND, index) or '', 1, 2) == '0 ' and redis.call('HDEL', RESEND, index) == 1
end

-- Keep the call that a retry of a dead member needs, or the reason why it has none ('' if it needs none).
local function keep_for_retry(index, before, call, why, kept)
  local held = redis.call('HGET', RESEND, index)
  local has_call = held and string.sub(held, 1, 1) ~= '-'
  local calls = redis.call('HLEN', RESEND) - tonumber(redis.call('HGET', BATCH, 'reasons') or 0)
  if call ~= '' and (has_call or calls < kept) then
    if before == DEAD then forget_reason(index) end
    redis.call('HSET', RESEND, index, '0 ' .. call)
    share_life(RESEND)
  elseif before ~= DEAD and string.sub(held or '', 1, 2) ~= '0 ' and (why ~= '' or call ~= '') then
    keep_reason(index, call ~= '' and TOO_MANY or why)
  end
end

-- Move a member from one state to another, with the counters.
local function move_member(index, before, after)
  if before == after then return end
  local counter = {[FAILING] = 'failing', [DEAD] = 'dead', [SUCCEEDED] = 'succeeded'}
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. index, after)
  if before ~= WAITING then redis.call('HINCRBY', BATCH, counter[before], -1) end -- safety: leaves-old-state
  redis.call('HINCRBY', BATCH, counter[after], 1)
  if before == DEAD then forget_reason(index) end -- safety: reason-forgotten
end

-- Begin another round of a member, whose call is sent by the caller, or by the sweeper if the caller does not say
-- within the lease that it was sent.
local function begin_round(index, round, call)
  note_stamp(index, round * ROUND)
  redis.call('HSET', RESEND, index, round .. ' ' .. call)
  redis.call('HSET', BATCH, 'resend_at', now + SENDING_MS, 'reported_at', now)
  share_life(RESEND)
end
