-- Put after `members.lua`, before the scripts that know successors in a canvas: members that reports enrol.
-- A report proves what it claims as any report does, by naming an id that stands at its index. For a successor that is
-- the member in whose canvas it follows: that one's message was enrolled before it was sent, however the reports of
-- the links between them overtake each other.

-- Whether somebody may still have published a successor that is not known yet. Once every member has succeeded
-- nobody can: each success announced its successors in the script that counted it.
local function may_grow()
  local c = counts()
  return c.succeeded < c.total
end

-- The index of a successor or a child, or nil.
local function find_index(id)
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

-- Enrol ids behind the last member. Names: 16 bytes, id … for those that are not UUIDs.
local function append_successors(ids, names)
  local total = tonumber(redis.call('HGET', BATCH, 'total'))
  for i, id in ipairs(ids) do redis.call('HSET', LATE, id, total + i - 1) end
  append_members(total, table.concat(ids))
  redis.call('HSET', BATCH, 'late', redis.call('HLEN', LATE))
  for i = 1, #names, 2 do
    local index = find_index(names[i])
    if index then redis.call('HSET', NAMES, index, names[i + 1]) end
  end
  share_life(LATE)
  share_life(NAMES)
end

-- Find the member that reports, and enrol what its report brings: itself if it is a successor, and its own successors.
-- Answer: its index, and whether the batch grew; or nil, false, and why not.
local function admit(named_index, id, origin_id, successors, names)
  local total, is_successor = tonumber(redis.call('HGET', BATCH, 'total')), origin_id ~= ''
  local states, members = redis.call('STRLEN', STATES) * 4, redis.call('STRLEN', MEMBERS) / ID_BYTES
  if states < total or members < total then return nil, false, 'corrupt' end -- safety: lost-key
  local is_proven = is_successor and find_index(id)
    or named_index < total and stands_at(named_index, is_successor and origin_id or id)
  if not is_proven then return nil, false, 'stranger' end
  local arrivals = unknown_of((is_successor and id or '') .. successors)
  local grows = #arrivals > 0 and may_grow() -- safety: successors-first
  if grows then
    local known, announced = redis.call('HLEN', LATE), tonumber(redis.call('HGET', BATCH, 'late') or 0)
    if known < announced then return nil, false, 'corrupt' end
    if redis.call('HEXISTS', BATCH, 'retired') == 1 then return nil, false, 'retired' end
    append_successors(arrivals, names)
  end
  local index = named_index
  if is_successor then index = find_index(id) end
  return index, grows, not index and 'stranger' or nil
end
