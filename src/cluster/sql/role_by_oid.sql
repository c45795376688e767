-- One role with its comment.  $1  its OID
SELECT r.oid, r.rolname::text AS name, r.rolcanlogin AS can_login, r.rolsuper AS superuser,
       r.rolreplication AS replication,
       coalesce(left(d.description, 300), '') AS comment, now() AS server_time
FROM pg_roles AS r
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE r.oid = $1
