-- Roles that may be a lease's, with their comments: the one of that name, and any with that mark
-- (it may have been renamed). Who has that name is the first; of copies of a mark two are enough.
--    $1  the name, or ''   $2  the mark
SELECT r.oid, r.rolname::text AS name, r.rolcanlogin AS can_login, r.rolsuper AS superuser,
       r.rolreplication AS replication,
       coalesce(left(d.description, 300), '') AS comment, now() AS server_time
FROM pg_roles AS r
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE r.rolname = $1::text::name OR d.description = $2
ORDER BY r.rolname <> $1::text::name, r.oid
LIMIT 2
