-- Put between the prelude and the scripts that keep what failed.
local ROUND, LAST_ROUND = 4096, 15 -- a stamp is round * 4096 + attempt, in two bytes
local LOOKED_AT = 100

-- The stamp of a member's last counted failure, or 0.
local function last_stamp(index)
  local high, low = string.byte(redis.call('GETRANGE', ATTEMPTS, index * 2, index * 2 + 1), 1, 2)
  return (high or 0) * 256 + (low or 0)
end

local function note_stamp(index, stamp)
  redis.call('SETRANGE', ATTEMPTS, index * 2, string.char(math.floor(stamp / 256), stamp % 256))
  share_life(ATTEMPTS)
end

-- Drop the failure of a member that is only failing; of many, some are looked at. Return whether there is room now.
local function drop_failing()
  if redis.call('HGET', BATCH, 'failing') == '0' then return false end
  for _, other in ipairs(redis.call('HRANDFIELD', FAILURES, LOOKED_AT)) do -- safety: failures-looked-at
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
