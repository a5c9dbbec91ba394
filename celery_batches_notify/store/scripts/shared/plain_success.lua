-- Put before all else of `record_outcome`: the short way of a plain success, which most reports are. Its member
-- waits, as another one does after it: so no event can become true, and of all that `record_outcome` may have to do
-- there is only this to do. Whatever is not plain goes on below, where it is decided.
local BATCH, STATES, MEMBERS, RESEND, CALLS, CHANNEL = KEYS[1], KEYS[2], KEYS[3], KEYS[8], KEYS[13], ARGV[1]

-- Which of these members there are, as positions in the two lists. It reads no other index: somebody may have made it up.
local function find_members(indexes, ids, total)
  local found, gets = {}, {}
  for i, index in ipairs(indexes) do
    if index < total and redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) == ids[i] then
      local n = #found * 3
      found[#found + 1], gets[n + 1], gets[n + 2], gets[n + 3] = i, 'GET', 'u2', '#' .. index
    end
  end
  return found, #found > 0 and redis.call('BITFIELD', STATES, unpack(gets)) or {}
end

-- Write the counted members down: their states, the batch's counter and life, no call kept, a token each.
local function write_successes(counted, succeeded)
  local sets, clock = {}, redis.call('TIME')
  for i, index in ipairs(counted) do
    sets[i * 4 - 3], sets[i * 4 - 2], sets[i * 4 - 1], sets[i * 4] = 'SET', 'u2', '#' .. index, SUCCEEDED
  end
  redis.call('BITFIELD', STATES, unpack(sets))
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  redis.call('HSET', BATCH, 'succeeded', succeeded + #counted, 'reported_at', now)
  -- A member that waits has something to be resent only if its call is kept.
  if redis.call('HDEL', CALLS, unpack(counted)) > 0 then redis.call('HDEL', RESEND, unpack(counted)) end
  for _ = 1, #counted do redis.pcall('PUBLISH', CHANNEL, '+') end
end

-- Count those of these successes that are plain. Return a word for each: counted, repeated, or false if it is not plain.
local function count_plain(indexes, ids)
  local words = {}
  for i = 1, #indexes do words[i] = false end
  local b = redis.call('HMGET', BATCH, 'schema', 'total', 'succeeded', 'failing', 'dead', 'retired', 'life', 'expires',
    'callbacks:progress')
  if tonumber(b[1]) ~= SCHEMA or b[6] or b[7] ~= 'running' or (b[9] or '0') ~= '0' then return words end
  local total, waiting = tonumber(b[2]), b[2] - b[3] - b[4] - b[5]
  if redis.call('STRLEN', STATES) * 4 < total then return words end -- safety: plain-lost-key
  if redis.call('PTTL', BATCH) * 2 <= tonumber(b[8]) then return words end -- safety: plain-renewed
  local found, states = find_members(indexes, ids, total)
  local counted, seen = {}, {}
  for n, i in ipairs(found) do
    local index = indexes[i]
    if states[n] == SUCCEEDED or seen[index] then
      words[i] = 'repeated'
    elseif states[n] == WAITING and #counted < waiting - 1 then -- safety: plain-not-last
      counted[#counted + 1], words[i], seen[index] = index, 'counted', true
    end
  end
  if #counted > 0 then write_successes(counted, b[3]) end
  return words
end

if #ARGV == 4 and tonumber(ARGV[4]) == SUCCEEDED then
  local words = count_plain({tonumber(ARGV[2])}, {ARGV[3]})
  if words[1] then return words end
end
