-- Put before every script: the curve of a batch's progress, whether or not anybody watches it.

-- Note when the first member of a sealed batch, and when each 64th of them, had ended. A smaller batch has no curve. It
-- has a key of its own, because a hash with many fields takes longer to search for those that it lacks.
local function note_mark(batch, curve, total, ended, now)
  if total < 64 or ended == 0 or ended > 1 and ended * 64 % total >= 64 then return end
  if redis.call('HEXISTS', batch, 'sealed_at') == 0 then return end -- safety: mark-of-sealed
  redis.call('HSETNX', curve, math.floor(ended * 64 / total), now)
  if redis.call('PTTL', curve) == -1 then redis.call('PEXPIRE', curve, redis.call('PTTL', batch)) end
end
