-- Fire `deadline` and `stall` callbacks whose time has come.
-- KEYS: the batch. ARGV: channel. Answer: checked, then the deliveries now due | gone | newer.
-- Safe to repeat because each callback fires once.
local why = refusal()
if why then return {why} end
local c, created_at, reported_at, finish_at = counts('created_at', 'reported_at', 'finish_at')
local next_at = 0

local function watch(event, from)
  fire_each(event, function(after)
    if now >= from + after then return true end
    if next_at == 0 or from + after < next_at then next_at = from + after end
    return false
  end)
end

if not finish_at then watch('deadline', tonumber(created_at)) end
if not c.ended then watch('stall', tonumber(reported_at)) end
redis.call('HSET', BATCH, 'watch_at', next_at)
return conclude('checked')
