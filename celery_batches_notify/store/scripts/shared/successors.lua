-- Put after `members.lua`, before the scripts that know successors in a canvas: members that reports enrol.
-- A report proves its membership by naming an id that stands at its index. A successor names the member whose canvas it
-- continues, which was enrolled before its message was sent, in whatever order the reports of the links between arrive.

-- Whether successors may have been published that are not enrolled yet. Once every member has succeeded there are none,
-- because each success announced its successors in the script that counted it.
local function may_grow()
  local c = counts()
  return c.succeeded < c.total
end

-- The index of a successor or a child, or nil.
local function find_index(id)
  return tonumber(redis.call('HGET', LATE, id) or nil)
end

-- The ids (16 bytes each) that are not enrolled.
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

-- Enrol ids behind the last member. `names` holds 16 bytes, id … for ids that are not UUIDs.
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

-- Find the member that reports, after enrolling the members that its report names: itself, if it is a successor, and
-- its own successors. Return its index, and whether the batch grew; or nil, false, and the reason.
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
