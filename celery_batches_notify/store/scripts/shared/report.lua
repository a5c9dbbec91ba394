-- Put before the scripts that take a report: names for what it says. A success may end after its state.
-- ARGV: channel; index (of a successor: that of the member in whose canvas it follows); id (16 bytes); state after it
-- (1 failing, 2 dead, 3 succeeded); stamp (round * 4096 + attempt); reason; the failure as JSON or ''; how many
-- failures are kept; for a dead member what a retry needs as JSON, or '' and why there is none ('' if nobody asks);
-- how many of these are kept; of a successor the id that stands at `index`, else ''; the successors that it published
-- (16 bytes each); what the body of its chord begins with (16 bytes each), or `broken`; then 16 bytes, id … for those
-- of them, and of itself, whose ids are not UUIDs.
local named_index, id, state, stamp = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5] or 0)
local reason, failure, failures_kept = ARGV[6] or '', ARGV[7] or '', tonumber(ARGV[8] or 0)
local call, unsendable, calls_kept = ARGV[9] or '', ARGV[10] or '', tonumber(ARGV[11] or 0)
local origin_id, successors, body = ARGV[12] or '', ARGV[13] or '', ARGV[14] or ''
local names = arguments_from(15)
