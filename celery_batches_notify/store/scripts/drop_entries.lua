-- Drop entries from a list of batches or workers, unless they were put there again meanwhile.
-- KEYS[1]: the list. ARGV: '' (no channel); how old an entry must be (ms), or 0: a batch is put on its lists shortly
-- before it is stored; then entry, the score that it was read with …. Answer: dropped, how many.
-- Safe to repeat because an entry that is gone stays gone.
local oldest_kept, dropped = now - tonumber(ARGV[2]), 0
for i = 3, #ARGV, 2 do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or nil)
  local old = ARGV[2] == '0' or score and score <= oldest_kept -- safety: in-the-making
  if score and score == tonumber(ARGV[i + 1]) and old then
    dropped = dropped + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return {'dropped', dropped}
