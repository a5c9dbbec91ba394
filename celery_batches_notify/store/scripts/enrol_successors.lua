-- Enrol some of the successors that a report brings before the report itself: no script enrols very many at once.
-- KEYS: the batch. ARGV: as `record_outcome` takes them; what they say of the outcome is not looked at.
-- Answer: enrolled, then the deliveries now due | repeated | stranger | corrupt | retired | gone | newer.
-- Safe to repeat because a late member is enrolled once, whoever tells of it first; and the batch cannot end before
-- the report, because the member that reports has not succeeded.
local why = refusal()
if why then return {why} end
local index, grown = admit(tonumber(ARGV[2]), ARGV[3], ARGV[12], ARGV[13])
if not index then return {grown} end
return grown and conclude('enrolled') or {'repeated'}
