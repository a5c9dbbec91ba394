-- Ask whether a notification may be sent to an address now.
-- KEYS: the address; the deliveries that wait for it. ARGV: '' (no channel); role: send | publish (send its message, if the
-- address failed) | wait (not sent, because the address is closed; it may probe) | follow (the same, but it does not
-- probe) | rest (sent and failed: it waits until another succeeds); for send and publish how long they may take (ms); the
-- delivery. Answer: go | wait, ms | probe (this delivery tries the address when the pause ends), ms.
-- Safe to repeat because at worst the next delivery waits for as long as an attempt may take.
local role, lease, who, REST, SPARE_MS, EARLY_MS = ARGV[2], tonumber(ARGV[3]), ARGV[4], 1e15, 30000, 2000
local a = redis.call('HMGET', KEYS[1], 'until_at', 'pause', 'published_until', 'prober', 'probe_until', 'early')
local until_at, pause, published_until = tonumber(a[1]), tonumber(a[2]) or 0, tonumber(a[3]) or 0
if not until_at then return {'go'} end
if until_at - now > pause then -- safety: pause-clock
  until_at = now + pause
  redis.call('HSET', KEYS[1], 'until_at', until_at)
end
if until_at > now then
  if role == 'send' and a[4] == who then -- the pause has grown meanwhile, or its message does not wait at all
    redis.call('HDEL', KEYS[1], 'prober', 'probe_until')
    redis.call('HSET', KEYS[1], 'early', who)
  end
  local again = a[6] ~= who or until_at - now <= EARLY_MS
  local probes = role == 'wait' and again and (not a[4] or a[4] == who or tonumber(a[5]) < now)
  if probes then redis.call('HSET', KEYS[1], 'prober', who, 'probe_until', until_at + SPARE_MS) end
  if role == 'wait' or role == 'follow' or role == 'rest' then
    redis.call('ZADD', KEYS[2], role == 'rest' and now + REST or now, who)
    redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
  end
  return {probes and 'probe' or 'wait', until_at - now}
end
-- The pause of a failed address is over: one attempt probes it, while the others go on waiting.
if role == 'send' then
  redis.call('HSET', KEYS[1], 'until_at', now + lease, 'pause', lease, 'probing', 1)
  redis.call('HDEL', KEYS[1], 'prober', 'probe_until', 'early')
elseif role == 'publish' then
  if published_until > now and published_until - now <= lease then return {'wait', published_until - now} end
  redis.call('HSET', KEYS[1], 'published_until', now + lease)
end
return {'go'}
