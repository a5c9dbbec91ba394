-- May a notification be sent to this host now?
-- KEYS[1]: the host. ARGV: '' (no channel); how long one attempt may take (ms). Answer: go | wait, ms.
-- Safe to repeat because at worst the next one waits for as long as an attempt may take.
local until_at = tonumber(redis.call('HGET', KEYS[1], 'until_at'))
if not until_at then return {'go'} end
if until_at > now then return {'wait', until_at - now} end
-- It failed, and its pause is over: one attempt finds out, while the others go on waiting.
redis.call('HSET', KEYS[1], 'until_at', now + tonumber(ARGV[2]))
return {'go'}
