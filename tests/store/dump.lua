-- Read everything that some batches hold, as lines of name, tab, value.
-- KEYS: none. ARGV: bids. MARK is a channel, PARTS are the names of a batch's other keys (`whole_store.py`).
-- Answer: one text per bid. The mark is published last, so no token of an earlier script comes after it.
local function hex(text) return (string.gsub(text or '', '.', function(c) return string.format('%02x', c:byte()) end)) end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local answer = {}

local function pairs_of(key, value_of)
  local flat, out = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do out[#out + 1] = flat[i] .. '=' .. value_of(flat[i + 1]) end
  table.sort(out)
  return table.concat(out, ' ')
end

local function when(entry)
  local state, attempts, at, number, last_at = string.match(entry, '^(%S+) (%S+) (%d+) (%d+) (%d+)$')
  if not state then return entry end
  local due = tonumber(at) <= now and 'now' or tonumber(at) <= now + 10000 and 'lease' or 'later'
  local heard = tonumber(at) == 1 and 'silent' or 'heard'
  local time = state == 'due' and due or state == 'published' and heard or '-'
  return table.concat({state, attempts, time, number, last_at == '0' and 'last' or ''}, ',')
end

for _, bid in ipairs(ARGV) do
  local key = 'batches:{' .. bid .. '}'
  local out = {}
  local function say(name, value) out[#out + 1] = name .. '\t' .. value end
  local flat = redis.call('HGETALL', key)
  for k = 1, #flat, 2 do
    say(flat[k], flat[k + 1])
  end
  say('declared', redis.call('GET', key .. ':callbacks') or '[]')
  local resend_at = tonumber(redis.call('HGET', key, 'resend_at') or '')
  if resend_at then say('sending', resend_at <= now and 'now' or 'lease') end
  local total, states, stamps = tonumber(redis.call('HGET', key, 'total') or 0), {}, {}
  for m = 0, total - 1 do states[m + 1] = redis.call('BITFIELD', key .. ':states', 'GET', 'u2', '#' .. m)[1] end
  local packed = redis.call('GET', key .. ':attempts') or ''
  for m = 0, total - 1 do
    stamps[m + 1] = (packed:byte(2 * m + 1) or 0) * 256 + (packed:byte(2 * m + 2) or 0)
  end
  say('states', table.concat(states))
  say('stamps', table.concat(stamps, ' '))
  say('members', hex(redis.call('GET', key .. ':members')))
  say('outbox', pairs_of(key .. ':outbox', when))
  say('failures', pairs_of(key .. ':failures', function() return '' end))
  say('resend', pairs_of(key .. ':resend', function(kept) return string.match(kept, '^%d+') or '-' end))
  local abandon_at = tonumber(redis.call('HGET', key, 'abandon_at') or 0)
  say('awaited_producers', abandon_at == 0 and '' or abandon_at <= now and 'now' or 'later')
  say('unconfirmed', pairs_of(key .. ':unconfirmed', function(count) return count end))
  say('children', redis.call('HLEN', key .. ':children'))
  local keys, ttls = {key}, {}
  for _, part in ipairs(PARTS) do keys[#keys + 1] = key .. ':' .. part end
  for _, name in ipairs(keys) do
    if redis.call('EXISTS', name) == 1 then ttls[#ttls + 1] = redis.call('PTTL', name) end
  end
  say('ttls', table.concat(ttls, ' '))
  say('live', redis.call('ZSCORE', 'batches:live', bid) and 1 or 0)
  say('listed', redis.call('ZSCORE', 'batches:index', bid) and 1 or 0)
  answer[#answer + 1] = table.concat(out, '\n')
end
redis.call('PUBLISH', MARK, '')
return answer
