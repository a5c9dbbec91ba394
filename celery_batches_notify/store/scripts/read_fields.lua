-- Read fields of many batches: one long text is read faster than thousands of short ones.
-- KEYS: the batches' hashes. ARGV: '' (no channel); then the fields.
-- Answer: read, the time (ms), {JSON}: of each batch the fields' values, where false stands for one that is not there,
-- or the error why the batch cannot be read. Safe to repeat because it changes nothing.
local fields, batches = arguments_from(2), {}
for n, key in ipairs(KEYS) do
  local values = redis.pcall('HMGET', key, unpack(fields))
  batches[n] = values.err or values
end
return {'read', now, {cjson.encode(batches)}}
