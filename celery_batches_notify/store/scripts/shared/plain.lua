-- Put before all else of the scripts that take plain successes, which most reports are: their members wait, as another one
-- does after them. So no event can become true, and of all that `record_outcome` may have to do there is little to do.
-- Whatever is not plain is left to that script's long way, where it is decided.
local BATCH, STATES, MEMBERS, RESEND, CALLS, CURVE = KEYS[1], KEYS[2], KEYS[3], KEYS[8], KEYS[13], KEYS[15]

-- How many members the batch has, how many of them have succeeded and are dead, and how many may succeed plainly; or nil.
local function read_plainly()
  local b = redis.call('HMGET', BATCH, 'schema', 'total', 'succeeded', 'failing', 'dead', 'retired', 'life', 'expires',
    'callbacks:progress')
  if tonumber(b[1]) ~= SCHEMA or b[6] or b[7] ~= 'running' or (b[9] or '0') ~= '0' then return end
  local others = b[2] - b[3] - b[4] - b[5] - 1
  if others < 1 then return end -- safety: plain-not-last
  if redis.call('PTTL', BATCH) * 2 <= tonumber(b[8]) then return end -- safety: plain-renewed
  return tonumber(b[2]), tonumber(b[3]), tonumber(b[5]), others
end
