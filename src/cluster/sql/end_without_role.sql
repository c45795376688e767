-- Ends the sessions of a role that is gone, and gives those that there were.
--   $1  the OID that it had; if another role has it by now, nothing is done
-- The call stands in the select list: as a condition it could run for other rows too.
SELECT a.pid, pg_terminate_backend(a.pid) AS signalled
FROM pg_stat_activity AS a
WHERE a.usesysid = $1 AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = a.usesysid)
