-- Replication slots that a role may have made: the server does not say who made one. One that
-- somebody else is using is theirs; a temporary one ends with its session.  $1  the role's OID
SELECT s.slot_name::text AS slot, s.database::text AS database, s.active_pid AS pid
FROM pg_replication_slots AS s
LEFT JOIN pg_stat_activity AS a ON a.pid = s.active_pid
WHERE NOT s.temporary AND (s.active_pid IS NULL OR a.usesysid = $1)
ORDER BY s.slot_name
LIMIT 25
