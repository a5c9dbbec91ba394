-- Fire `deadline` and `stall` where their time has come.
-- KEYS: the batch. ARGV: channel. Answer: checked, then the deliveries now due | gone | newer.
-- Safe to repeat because each callback fires once.
local why = refusal()
if why then return {why} end
local b = redis.call('HMGET', BATCH, 'created_at', 'reported_at', 'sealed_at', 'total', 'succeeded', 'dead', 'finish_at')
local created, reported = tonumber(b[1]), tonumber(b[2])
local ended = b[3] and b[5] + b[6] == tonumber(b[4])
local next_at = 0

local function watch(event, from)
  fire_each(event, function(after)
    if now >= from + after then return true end
    if next_at == 0 or from + after < next_at then next_at = from + after end
    return false
  end)
end

if not b[7] then watch('deadline', created) end
if not ended then watch('stall', reported) end
redis.call('HSET', BATCH, 'watch_at', next_at)
return conclude('checked')
