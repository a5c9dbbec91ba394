-- Count several plain successes of one batch at once.
-- KEYS: the batch. ARGV: channel; then of each success its member's index, from the lowest to the highest, and its id (16
-- bytes). The indexes are close to each other, because all that lies between them is read.
-- Answer: a word for each, in their order: counted | repeated | apart (only `record_outcome` can decide about it).
-- Safe to repeat because success is final.
local answer = {}
for i = 2, #ARGV, 2 do answer[i / 2] = 'apart' end
local total, succeeded, dead, others = read_plainly()
if not total then return answer end

local first, last = tonumber(ARGV[2]), tonumber(ARGV[#ARGV - 1])
local first_four, last_four = math.floor(first / 4), math.floor(last / 4) -- a byte holds the states of four
local fours = {string.byte(redis.call('GETRANGE', STATES, first_four, last_four), 1, -1)}
if #fours <= last_four - first_four then return answer end -- safety: group-lost-key
local ids = redis.call('GETRANGE', MEMBERS, first * ID_BYTES, last * ID_BYTES + ID_BYTES - 1)

local counted = {}
for i = 2, #ARGV, 2 do
  local index = tonumber(ARGV[i])
  local at, place, unit = (index - first) * ID_BYTES, math.floor(index / 4) - first_four + 1, 4 ^ (3 - index % 4)
  local state = math.floor(fours[place] / unit) % 4
  local stands_there = index < total and string.sub(ids, at + 1, at + ID_BYTES) == ARGV[i + 1] -- safety: group-id
  if stands_there and state == SUCCEEDED then
    answer[i / 2] = 'repeated'
  elseif stands_there and state == WAITING and #counted < others then -- safety: group-not-last
    fours[place] = fours[place] + (SUCCEEDED - WAITING) * unit
    counted[#counted + 1], answer[i / 2] = ARGV[i], 'counted'
  end
end
if #counted == 0 then return answer end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('SETRANGE', STATES, first_four, string.char(unpack(fours)))
redis.call('HSET', BATCH, 'succeeded', succeeded + #counted, 'reported_at', now)
for n = 1, #counted do note_mark(BATCH, CURVE, total, succeeded + n + dead, now) end
-- A member that waits can have something in RESEND only if its call is kept.
if redis.call('HDEL', CALLS, unpack(counted)) > 0 then redis.call('HDEL', RESEND, unpack(counted)) end -- safety: group-not-kept
for _ = 1, #counted do redis.pcall('PUBLISH', ARGV[1], '+') end
return answer
