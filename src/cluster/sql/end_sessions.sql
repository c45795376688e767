-- Ends every session of a role, which may be gone already, and gives those that there were.
--   $1  its OID
-- The call stands in the select list: as a condition it could run for other rows too.
SELECT pid, pg_terminate_backend(pid) AS signalled FROM pg_stat_activity WHERE usesysid = $1
