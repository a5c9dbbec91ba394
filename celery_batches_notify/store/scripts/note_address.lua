-- Record how an address answered. One that failed is left alone, longer each time.
-- KEYS: the address; the deliveries that wait for it. ARGV: '' (no channel); answered | failed | busy (it takes
-- notifications, but not so many) | opened (a person says that it works again); how long it asked for a pause (ms, or 0).
-- Answer: open, then two waiting deliveries, which are off the list now | closed, ms, first (this call closed it) | not,
-- then some deliveries that may probe it when the pause ends.
-- Safe to repeat because a failure that is recorded twice changes only the time.
local FIRST_MS, FIRST_BUSY_MS, LONGEST_MS, FORGET_MS, WOKEN, CANDIDATES = 5000, 250, 3600000, 10800000, 2, 10
local what, asked = ARGV[2], tonumber(ARGV[3])
if what == 'answered' or what == 'opened' then
  redis.call('DEL', KEYS[1])
  local woken = what == 'answered' and redis.call('ZRANGE', KEYS[2], 0, WOKEN - 1) or {}
  if #woken > 0 then redis.call('ZREM', KEYS[2], unpack(woken)) end
  return {'open', unpack(woken)}
end
local a = redis.call('HMGET', KEYS[1], 'until_at', 'probing')
local until_at = tonumber(a[1]) or 0
if until_at > now and not a[2] then -- safety: one-closing
  if asked > until_at - now then redis.call('HSET', KEYS[1], 'until_at', now + asked, 'pause', asked) end
  return {'closed', math.max(asked, until_at - now), 'not'}
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local first = what == 'busy' and FIRST_BUSY_MS or FIRST_MS
local pause = math.max(asked, math.min(first * 2 ^ math.min(failures - 1, 20), LONGEST_MS))
redis.call('HSET', KEYS[1], 'until_at', now + pause, 'pause', pause)
redis.call('HDEL', KEYS[1], 'probing', 'published_until', 'prober', 'probe_until', 'early')
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, math.max(FORGET_MS, 3 * pause)) end
local may_ask = redis.call('ZRANGE', KEYS[2], '-inf', '(1e15', 'BYSCORE', 'LIMIT', 0, CANDIDATES)
return {'closed', pause, 'first', unpack(may_ask)}
