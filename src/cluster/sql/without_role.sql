-- The OIDs of roles that have sessions and are gone.
SELECT DISTINCT a.usesysid AS oid
FROM pg_stat_activity AS a
WHERE a.usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = a.usesysid)
