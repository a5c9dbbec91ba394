-- Put before all else of `record_outcome`: its short way, without a function more, because each call makes them anew.
if #ARGV == 4 and tonumber(ARGV[4]) == SUCCEEDED then
  local index, total, succeeded, dead = tonumber(ARGV[2]), read_plainly()
  -- Somebody may have made the index up: it is looked up only if it is one of the batch's.
  if total and index < total
      and redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) == ARGV[3] then
    local place, unit = string.format('%d', index / 4), 4 ^ (3 - index % 4) -- a byte holds the states of four
    local four = string.byte(redis.call('GETRANGE', STATES, place, place))
    local state = four and math.floor(four / unit) % 4 -- safety: plain-lost-key
    if state == SUCCEEDED then return redis.status_reply('repeated') end -- a client reads a status in one step
    if state == WAITING then
      local clock = redis.call('TIME')
      local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
      redis.call('SETRANGE', STATES, place, string.char(four + (SUCCEEDED - WAITING) * unit))
      redis.call('HSET', BATCH, 'succeeded', succeeded + 1, 'reported_at', now)
      note_mark(BATCH, CURVE, total, succeeded + 1 + dead, now)
      -- A member that waits can have something in RESEND only if its call is kept.
      if redis.call('HDEL', CALLS, ARGV[2]) == 1 then redis.call('HDEL', RESEND, ARGV[2]) end -- safety: plain-not-kept
      redis.pcall('PUBLISH', ARGV[1], '+')
      return redis.status_reply('counted')
    end
  end
end
