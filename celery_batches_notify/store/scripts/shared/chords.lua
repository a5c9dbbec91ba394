-- Put after `successors.lua`: chord bodies that follow once all of their header has succeeded.
-- The worker that publishes a body announces it. If two deliveries of the header's last part run at once, Celery lets
-- only one of them publish it, and the other's success may be counted first, so each part of a header names the body.
-- The batch's field `awaited` holds the bodies that are not enrolled (hexadecimal), or `broken`: one will not follow.
local BROKEN = 'broken'

local function to_hex(ids)
  return (string.gsub(ids, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

local function from_hex(hex)
  return (string.gsub(hex, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

local function awaited_bodies()
  return unknown_of(from_hex(redis.call('HGET', BATCH, 'awaited') or ''))
end

-- Store the members with which a chord's body begins (16 bytes each) when a part of its header has succeeded, or that
-- Celery will not call it.
local function await_body(body)
  if body == BROKEN then return redis.call('HSET', BATCH, 'awaited', BROKEN) end
  if #unknown_of(body) == 0 or redis.call('HGET', BATCH, 'awaited') == BROKEN then return end
  local awaited = unknown_of(table.concat(awaited_bodies()) .. body)
  redis.call('HSET', BATCH, 'awaited', to_hex(table.concat(awaited)))
end

-- If all members have succeeded, so have all headers, and each body is on its way. After a death a body may never come,
-- because Celery gives up a chord when its first part fails, even if that succeeds later: then work is missing.
local function enrol_awaited(names)
  local b = redis.call('HMGET', BATCH, 'awaited', 'had_death')
  if not b[1] or b[1] == BROKEN or may_grow() then return end
  local bodies = awaited_bodies()
  if #bodies > 0 and b[2] then redis.call('HSET', BATCH, 'cut_short', 1) end -- safety: chord-cut-short
  if #bodies > 0 and not b[2] then append_successors(bodies, names) end
  redis.call('HDEL', BATCH, 'awaited')
end
