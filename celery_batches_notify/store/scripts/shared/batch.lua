-- Put first before every script: the names of a batch's keys, its clock, and its counts.
-- KEYS: the batch's keys as `keys.py` lists them. ARGV[1]: the channel of the batch. Times are milliseconds.
-- The constants that Python shares are set above: see `scripts/__init__.py`.
local BATCH, STATES, MEMBERS, ATTEMPTS, LATE, NAMES, FAILURES, RESEND, CHILDREN, OUTBOX, DELIVERIES,
  UNCONFIRMED, CALLS, CALLBACKS, CURVE = unpack(KEYS)
local CHANNEL = ARGV[1]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local tokens, fired = {}, {}

-- The script's arguments from one on.
local function arguments_from(first)
  local rest = {}
  for i = first, #ARGV do rest[#rest + 1] = ARGV[i] end
  return rest
end

-- Why this script must not touch the batch, or nil.
local function refusal()
  local schema = redis.call('HGET', BATCH, 'schema')
  if not schema then return 'gone' end -- safety: gone-no-key
  if tonumber(schema) > SCHEMA then return 'newer' end -- safety: newer-schema
end

-- The counts of members and what they mean, then the values of the given fields.
local function counts(...)
  local b = redis.call('HMGET', BATCH, 'total', 'succeeded', 'failing', 'dead', 'sealed_at', 'cut_short', ...)
  local total, succeeded, failing, dead = tonumber(b[1]), tonumber(b[2]), tonumber(b[3]), tonumber(b[4])
  local is_sealed, is_cut_short = b[5] and true or false, b[6]
  local complete = is_sealed and succeeded + failing + dead == total -- safety: complete
  local ended = is_sealed and succeeded + dead == total
  local success = ended and dead == 0 and not is_cut_short
  return {
    total = total, succeeded = succeeded, dead = dead,
    is_sealed = is_sealed, complete = complete, ended = ended, success = success,
  }, unpack(b, 7)
end

local function state_of(index)
  return redis.call('BITFIELD', STATES, 'GET', 'u2', '#' .. index)[1]
end

-- Give a key that may be new the life of its batch.
local function share_life(key)
  if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, redis.call('PTTL', BATCH)) end -- safety: key-life
end
