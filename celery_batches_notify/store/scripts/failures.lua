-- Put between the prelude and the scripts that keep failures.

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
