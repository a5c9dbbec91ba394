-- Enrol some of a report's successors before the report itself, so that no script enrols very many at once.
-- KEYS: the batch. ARGV: channel; a report, as `shared/report.lua` names it; its outcome is not looked at.
-- Answer: enrolled, then the deliveries now due | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because a successor is enrolled once, whichever report names it first; and the batch cannot end before
-- the report, because the member that reports has not succeeded.
local why = refusal()
if why then return {why} end
local _, grew, refused = admit(named_index, id, origin_id, successors, names)
if refused then return {refused} end
return grew and conclude('enrolled') or {'repeated'}
