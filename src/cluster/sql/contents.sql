-- What a role has in this database, as far as its own hand-over needs it.
--   $1  its OID   $2  the OID of the attic role, or 0
--
-- Names of roles are read again in each database: one of another encoding shows them otherwise.
-- Default privileges and user mappings are no objects of the role's own: they are about it.
WITH owned AS (
    SELECT d.classid, d.objid FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'o'
      AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
      AND d.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)
      -- The sequence of a column goes with its table.
      AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (
          SELECT FROM pg_depend AS p JOIN pg_class AS c ON c.oid = p.objid AND c.relkind = 'S'
          WHERE p.classid = 'pg_class'::regclass AND p.objid = d.objid
            AND p.refclassid = 'pg_class'::regclass AND p.deptype IN ('a', 'i')))
), shown AS (
    SELECT i.type, i.identity FROM (SELECT * FROM owned ORDER BY classid, objid LIMIT 25) AS o
    CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) AS i
)
SELECT pg_backend_pid() AS pid,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = $1) AS role_name,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = $2) AS attic_name,
       ARRAY(SELECT p.oid::regprocedure::text FROM owned AS o
             JOIN pg_proc AS p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
             WHERE p.prosecdef ORDER BY p.oid)::text[] AS definers,
       ARRAY(SELECT quote_ident(n.nspname) FROM owned AS o
             JOIN pg_namespace AS n ON o.classid = 'pg_namespace'::regclass AND n.oid = o.objid
             ORDER BY n.oid)::text[] AS schemas,
       -- Triggers of others' tables that run its routines, for whoever changes such a table.
       ARRAY(SELECT format('%I ON %I.%I', t.tgname, n.nspname, c.relname) FROM owned AS o
             JOIN pg_trigger AS t ON o.classid = 'pg_proc'::regclass AND t.tgfoid = o.objid
             JOIN pg_class AS c ON c.oid = t.tgrelid
             JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE NOT t.tgisinternal AND c.relowner <> $1 ORDER BY t.oid)::text[] AS triggers,
       (SELECT count(*) FROM owned) AS owned,
       ARRAY(SELECT s.type FROM shown AS s ORDER BY s.type, s.identity)::text[] AS types,
       ARRAY(SELECT s.identity FROM shown AS s ORDER BY s.type, s.identity)::text[] AS identities
