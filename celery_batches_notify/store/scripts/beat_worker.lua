-- Record a worker's heartbeat.
-- KEYS[1]: the workers. ARGV: '' (no channel); its id; how long the list is kept (ms). Answer: beaten, the time (ms).
-- Safe to repeat because only the last heartbeat counts.
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'beaten', now}
