-- Put before the scripts that look at single members: which one stands where, and what was counted of it.

local function stands_at(index, id)
  return redis.call('GETRANGE', MEMBERS, index * ID_BYTES, index * ID_BYTES + ID_BYTES - 1) == id -- safety: id-at-index
end

-- Add members (16 bytes each) behind the last one; they wait. Return how many there are then.
local function append_members(total, ids)
  local grown = total + #ids / ID_BYTES
  redis.call('SETRANGE', MEMBERS, total * ID_BYTES, ids)
  redis.call('BITFIELD', STATES, 'SET', 'u2', '#' .. (grown - 1), WAITING)
  redis.call('HSET', BATCH, 'total', grown, 'reported_at', now)
  share_life(MEMBERS)
  share_life(STATES)
  return grown
end

-- The stamp of a member's last counted failure, or 0. A stamp is round * 4096 + attempt, in two bytes.
local function last_stamp(index)
  local high, low = string.byte(redis.call('GETRANGE', ATTEMPTS, index * 2, index * 2 + 1), 1, 2)
  return (high or 0) * 256 + (low or 0)
end

local function round_of(stamp)
  return math.floor(stamp / ROUND)
end

local function note_stamp(index, stamp)
  redis.call('SETRANGE', ATTEMPTS, index * 2, string.char(math.floor(stamp / 256), stamp % 256))
  share_life(ATTEMPTS)
end
