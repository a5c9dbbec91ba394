-- Put between the prelude and the scripts that know late members: successors in a canvas, enrolled by reports.
-- A report proves what it claims as any report does, by naming an id that stands at its index. For a late member
-- that is the one whose canvas it goes on with: that member's message was enrolled before it was sent, however
-- the reports of the links between them overtake each other.

local function stands_at(index, id)
  return redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) == id -- safety: id-at-index
end

-- Whether somebody may still have published a successor that is not known yet. Once every member has succeeded
-- nobody can: each success announced its successors in the script that counted it.
local function may_grow()
  local b = redis.call('HMGET', BATCH, 'total', 'succeeded')
  return tonumber(b[2]) < tonumber(b[1])
end

local function late_index(id)
  return tonumber(redis.call('HGET', LATE, id) or nil)
end

-- Those of the ids (16 bytes each) that are not enrolled.
local function unknown_of(ids)
  local unknown = {}
  for at = 1, #ids, ID_BYTES do
    local id = string.sub(ids, at, at + ID_BYTES - 1)
    if redis.call('HEXISTS', LATE, id) == 0 and not unknown[id] then
      unknown[#unknown + 1] = id
      unknown[id] = true
    end
  end
  return unknown
end

-- Enrol ids behind the last member. From ARGV[15] on: 16 bytes, id … for those that are not UUIDs.
local function enrol_late(ids)
  local total = tonumber(redis.call('HGET', BATCH, 'total'))
  for i, id in ipairs(ids) do redis.call('HSET', LATE, id, total + i - 1) end
  redis.call('SETRANGE', MEMBERS, total * ID_BYTES, table.concat(ids))
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. (total + #ids - 1), WAITING)
  redis.call('HSET', BATCH, 'total', total + #ids, 'late', redis.call('HLEN', LATE), 'reported_at', now)
  for i = 15, #ARGV, 2 do
    local index = late_index(ARGV[i])
    if index then redis.call('HSET', NAMES, index, ARGV[i + 1]) end
  end
  share_life(LATE)
  share_life(NAMES)
end

-- Find the member that reports, and enrol what its report brings: itself where it is late, and its successors.
-- Answer: its index, and whether the batch grew; or nil, and why not.
local function admit(index, id, late_of, successors)
  local total, late = tonumber(redis.call('HGET', BATCH, 'total')), late_of ~= ''
  local states, members = redis.call('STRLEN', STATES) * 4, redis.call('STRLEN', MEMBERS) / ID_BYTES
  if states < total or members < total then return nil, 'corrupt' end -- safety: lost-key
  local proven = late and late_index(id) or index < total and stands_at(index, late and late_of or id)
  if not proven then return nil, 'stranger' end
  local arrivals = unknown_of((late and id or '') .. successors)
  local grows = #arrivals > 0 and may_grow() -- safety: successors-first
  if grows then
    if redis.call('HLEN', LATE) < tonumber(redis.call('HGET', BATCH, 'late') or 0) then return nil, 'corrupt' end
    if redis.call('HEXISTS', BATCH, 'retired') == 1 then return nil, 'retired' end
    enrol_late(arrivals)
  end
  if late then index = late_index(id) end
  if not index then return nil, 'stranger' end
  return index, grows
end
