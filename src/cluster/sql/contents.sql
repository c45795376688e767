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
    -- SQL_ASCII keeps bytes that are no text in any encoding: they are written as escapes.
    SELECT i.type, CASE WHEN getdatabaseencoding() = 'SQL_ASCII'
            THEN encode(convert_to(i.identity, 'SQL_ASCII'), 'escape') ELSE i.identity
        END AS identity
    FROM (SELECT * FROM owned ORDER BY classid, objid LIMIT 25) AS o
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
       -- What has no owner, hangs on its objects, and nobody but it or a superuser can have made.
       ARRAY(SELECT format('DROP USER MAPPING FOR PUBLIC SERVER %I', f.srvname) FROM owned AS o
             JOIN pg_foreign_server AS f
               ON o.classid = 'pg_foreign_server'::regclass AND f.oid = o.objid
             JOIN pg_user_mappings AS u ON u.srvid = f.oid AND u.umuser = 0
           UNION ALL
             SELECT format('DROP CAST (%s AS %s)',
                           format_type(c.castsource, NULL), format_type(c.casttarget, NULL))
             FROM pg_cast AS c JOIN pg_type AS a ON a.oid = c.castsource
             JOIN pg_type AS b ON b.oid = c.casttarget
             WHERE ((a.typowner = $1 AND b.typowner IN ($1, 10))
                    OR (a.typowner = 10 AND b.typowner = $1))
               AND NOT EXISTS (SELECT FROM pg_depend AS d
                   WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid
                     AND d.deptype <> 'n'))::text[] AS parts,
       (SELECT count(*) FROM owned) AS owned,
       ARRAY(SELECT s.type FROM shown AS s ORDER BY s.type, s.identity)::text[] AS types,
       ARRAY(SELECT s.identity FROM shown AS s ORDER BY s.type, s.identity)::text[] AS identities,
       ARRAY(SELECT current_database() FROM shown)::text[] AS places
