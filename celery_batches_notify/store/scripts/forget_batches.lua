-- Forget what is counted of batches that do not exist any more, but not at once: a sweeper may have read one before.
-- KEYS[1]: per batch, the numbers that are counted. ARGV: '' (no channel); after how long (ms); then the bids.
-- Answer: forgotten, how many. Safe to repeat because the time runs from the first call.
local forgotten = 0
for i = 3, #ARGV do
  local line = redis.call('HGET', KEYS[1], ARGV[i])
  local gone_at = line and tonumber(string.match(line, 'gone_at=(%d+)') or nil)
  if line and not gone_at then
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%s gone_at=%.0f', line, now))
  elseif line and gone_at <= now - tonumber(ARGV[2]) then -- safety: counted-remembered
    forgotten = forgotten + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return {'forgotten', forgotten}
