-- Put between the prelude and the scripts that keep what failed.

-- The stamp (round * 4096 + attempt) of a member's last counted failure, or 0.
local function last_stamp(index)
  local high, low = string.byte(redis.call('GETRANGE', ATTEMPTS, index * 2, index * 2 + 1), 1, 2)
  return (high or 0) * 256 + (low or 0)
end

local function note_stamp(index, stamp)
  redis.call('SETRANGE', ATTEMPTS, index * 2, string.char(math.floor(stamp / 256), stamp % 256))
  share_life(ATTEMPTS)
end

-- Keep a member's failure. Where there is no room, a dead member's takes the place of a failing one's.
local function keep_failure(index, state, failure, kept)
  if redis.call('HEXISTS', FAILURES, index) == 0 and redis.call('HLEN', FAILURES) >= kept then
    local evicted = false
    for _, other in ipairs(state == DEAD and redis.call('HKEYS', FAILURES) or {}) do
      if state_of(other) == FAILING then
        evicted = redis.call('HDEL', FAILURES, other) == 1
        break
      end
    end
    if not evicted then return end
  end
  redis.call('HSET', FAILURES, index, string.format('%.0f %s', now, failure))
  share_life(FAILURES)
end

-- Keep what a retry of a dead member needs, or count that it cannot be sent again, and why.
local function keep_for_retry(index, call, unsendable, kept)
  local room = redis.call('HEXISTS', RESEND, index) == 1 or redis.call('HLEN', RESEND) < kept
  if call ~= '' and not room then call, unsendable = '', 'too many dead' end
  if call ~= '' then
    redis.call('HSET', RESEND, index, '0 ' .. call)
    share_life(RESEND)
  elseif unsendable ~= '' then
    redis.call('HINCRBY', BATCH, 'unsendable:' .. unsendable, 1)
  end
end
