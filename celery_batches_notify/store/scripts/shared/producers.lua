-- Put before the scripts that know whether the producers of a batch are still there.

-- Store when the producers are given up: `abandon_after` from now, while the batch waits for its seal or a chunk for its
-- confirmation. Those of a batch that is kept open are not given up before its seal.
local function await_producers()
  local b = redis.call('HMGET', BATCH, 'abandon_after', 'sealed_at', 'keep_open')
  local waits = b[3] ~= '1'
  if b[2] then waits = redis.call('HLEN', UNCONFIRMED) > 0 end
  redis.call('HSET', BATCH, 'abandon_at', b[1] and waits and now + b[1] or 0)
end

-- Record that the messages of the chunks that begin at these indexes have left.
local function confirm_chunks(firsts, awaited)
  for _, first in ipairs(firsts) do redis.call('HDEL', UNCONFIRMED, first) end
  if awaited or redis.call('HLEN', UNCONFIRMED) == 0 then await_producers() end
end

-- Whether this is the owner of a batch that a sweeper sealed because it took the owner for dead.
local function is_given_up(adder)
  return adder == 'owner' and redis.call('HEXISTS', BATCH, 'abandoned_at') == 1
end
