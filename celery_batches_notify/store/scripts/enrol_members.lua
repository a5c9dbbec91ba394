-- Add members at the end of a batch, before their messages can be seen.
-- KEYS: the batch. ARGV: channel; first (the index of the first of them); ids (16 bytes each); adder (`owner`,
-- `other`, or the index of the running member that adds them); its id; if that one is a successor, the id that stands
-- at this index, else ''; whether they are batches themselves (1 or 0); whether these are the last (1 or 0); then
-- offset, id … for ids that are not UUIDs. Answer: enrolled | already (, at index) | moved, total (try again
-- there) | sealed | abandoned (the owner was taken for dead) | gone | newer.
-- Safe to repeat because ids that already stand at `first` are left as they are.
local first, ids, adder, adder_id, origin_id = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local why = refusal()
if why then return {why} end
if is_given_up(adder) then return {'abandoned'} end -- safety: given-up-adder
if redis.call('GETRANGE', MEMBERS, first * ID_BYTES, first * ID_BYTES + #ids - 1) == ids then -- safety: enrol-repeat
  await_producers()
  return {'already'}
end
local are_batches, are_last = ARGV[7] == '1', ARGV[8]
local known = are_batches and find_index(ids)
if known then return {'already', known} end
local b = redis.call('HMGET', BATCH, 'total', 'sealed_at', 'keep_open')
-- Before the seal the owner adds, and others where it lets them; a member that has not ended holds its batch
-- open, and may always add.
local may = not b[2] and (adder == 'owner' or b[3] == '1')
if not may and tonumber(adder) then
  local successor = origin_id ~= '' and find_index(adder_id)
  if successor then
    may = state_of(successor) < DEAD
  elseif origin_id ~= '' then -- it runs before its predecessor's report has come
    may = stands_at(adder, origin_id) and may_grow()
  else
    may = state_of(adder) < DEAD and stands_at(adder, adder_id)
  end
end
if not may then return {'sealed'} end -- safety: sealed-refuses
local total = tonumber(b[1])
if total ~= first then return {'moved', total} end -- safety: place-moved
local grown = append_members(total, ids)
for i = 9, #ARGV, 2 do redis.call('HSET', are_batches and CHILDREN or NAMES, first + ARGV[i], ARGV[i + 1]) end
if are_batches then
  redis.call('HSET', LATE, ids, first)
  share_life(CHILDREN)
  share_life(LATE)
end
share_life(NAMES)
if adder == 'owner' then redis.call('HSET', BATCH, 'all_enrolled', are_last) end
redis.call('HSET', UNCONFIRMED, first, grown - first)
share_life(UNCONFIRMED)
await_producers()
return conclude('enrolled')
