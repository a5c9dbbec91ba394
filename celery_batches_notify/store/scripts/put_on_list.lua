-- Put a bid on a list of batches, which lives as long as the longest of them.
-- KEYS[1]: the list. ARGV: '' (no channel); the bid; how long the list must live (ms). Answer: put.
-- Safe to repeat because a bid stands there once, and the list's life never shrinks.
redis.call('ZADD', KEYS[1], now, ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return {'put'}
