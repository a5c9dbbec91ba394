-- Find the workers that have been silent for a whole lease, and read the clock that says so.
-- KEYS[1]: the workers. ARGV: '' (no channel); the lease (ms). Answer: found, the time (ms), then worker, its last beat ….
-- Safe to repeat because it changes nothing. A beat in the future was written by another clock: before the clock was set
-- back, or before a failover.
local lease, answer = tonumber(ARGV[2]), {'found', now}
local function add(from, to)
  local found = redis.call('ZRANGE', KEYS[1], from, to, 'BYSCORE', 'WITHSCORES')
  for _, part in ipairs(found) do answer[#answer + 1] = part end
end
add('-inf', string.format('(%.0f', now - lease)) -- safety: lease-ended
add(string.format('(%.0f', now + lease), '+inf') -- safety: beat-ahead
return answer
