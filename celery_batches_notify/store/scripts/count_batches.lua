-- Add to the totals what batches have come to since they were last counted. The numbers of a batch only grow.
-- KEYS[1]: the totals. KEYS[2]: per batch, the numbers that are counted. ARGV: '' (no channel); how long both must live
-- (ms); how old a reading may be (ms); 1 if this ends a sweep, else 0; then of each batch its bid, when it was read (ms),
-- and its numbers, `name=n name=n`. Answer: counted. Safe to repeat because only what exceeds a counted number is added.
local TOTALS, COUNTED = KEYS[1], KEYS[2]

local function numbers_of(line)
  local numbers = {}
  for name, n in string.gmatch(line, '(%S+)=(%d+)') do numbers[name] = tonumber(n) end
  return numbers
end

local function count(bid, read_at, numbers)
  if read_at < now - tonumber(ARGV[3]) then return end -- safety: counted-in-time
  local counted, line = numbers_of(redis.call('HGET', COUNTED, bid) or ''), {}
  for name, n in pairs(numbers) do
    local more = n - (counted[name] or 0) -- safety: counted-once
    if more > 0 then
      redis.call('HINCRBY', TOTALS, name, string.format('%.0f', more))
      counted[name] = n
    end
  end
  for name, n in pairs(counted) do line[#line + 1] = string.format('%s=%.0f', name, n) end
  redis.call('HSET', COUNTED, bid, table.concat(line, ' '))
end

for i = 5, #ARGV, 3 do count(ARGV[i], tonumber(ARGV[i + 1]), numbers_of(ARGV[i + 2])) end
if ARGV[4] == '1' then redis.call('HSET', TOTALS, 'swept_at', now) end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
end
return {'counted'}
