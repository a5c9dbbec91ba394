-- Put between `members.lua` and the scripts that keep what failed.
local SAMPLED = 100

-- Drop the failure of a member that is only failing, if one is in a sample of them. Return whether one was dropped.
local function drop_failing()
  if redis.call('HGET', BATCH, 'failing') == '0' then return false end
  for _, other in ipairs(redis.call('HRANDFIELD', FAILURES, SAMPLED)) do -- safety: failures-looked-at
    if state_of(other) == FAILING then return redis.call('HDEL', FAILURES, other) == 1 end
  end
  return false
end

-- Keep a member's failure. If there is no room, a dead member's takes the place of a failing one's.
local function keep_failure(index, state, failure, kept)
  local room = redis.call('HEXISTS', FAILURES, index) == 1 or redis.call('HLEN', FAILURES) < kept
  if not room and not (state == DEAD and drop_failing()) then return end
  redis.call('HSET', FAILURES, index, string.format('%.0f %s', now, failure))
  share_life(FAILURES)
end
