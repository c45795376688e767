-- What a role has in this database, as far as its own hand-over needs it: a portion of it.
--   $1  its OID   $2  the OID of the attic role, or 0   $3  how many of each sort at most
--   $4  how many of its objects are counted at most
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
), portion AS (
    -- Schemas first: whoever is to own what is in one must own or be let into it.
    SELECT one.classid, one.objid FROM (
        (SELECT n.tableoid AS classid, n.oid AS objid FROM pg_namespace AS n
         WHERE n.nspowner = $1 LIMIT $3)
      UNION ALL
        (SELECT o.classid, o.objid FROM owned AS o
         WHERE o.classid <> 'pg_namespace'::regclass LIMIT $3)
    ) AS one
    LIMIT $3
), about AS (
    -- Besides those, what goes with them and has privileges of its own: sequences of columns, and
    -- types of rows. What it gave in advance in one schema is taken back like what it gave.
    SELECT o.classid, o.objid FROM portion AS o
  UNION
    SELECT p.classid, p.objid FROM portion AS o JOIN pg_depend AS p
      ON p.refclassid = o.classid AND p.refobjid = o.objid AND p.deptype IN ('a', 'i')
    WHERE (p.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class AS c
               WHERE c.oid = p.objid AND c.relkind = 'S' AND c.relacl IS NOT NULL))
       OR (p.classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type AS t
               WHERE t.oid = p.objid AND t.typacl IS NOT NULL))
  UNION ALL
    (SELECT d.tableoid, d.oid FROM pg_default_acl AS d
     WHERE d.defaclrole = $1 AND d.defaclnamespace <> 0 LIMIT $3)
), named AS (
    -- SQL_ASCII keeps bytes that are no text in any encoding: they are written as escapes, and are
    -- of no use in a statement.
    SELECT o.classid, o.objid, i.type, e.identity,
           octet_length(e.identity) = octet_length(i.identity) AS is_text
    FROM portion AS o
    CROSS JOIN LATERAL pg_identify_object(o.classid, o.objid, 0) AS i
    CROSS JOIN LATERAL (SELECT CASE WHEN getdatabaseencoding() = 'SQL_ASCII'
            THEN encode(convert_to(i.identity, 'SQL_ASCII'), 'escape') ELSE i.identity
        END AS identity) AS e
), shown AS (
    SELECT * FROM named ORDER BY classid, objid LIMIT 25
)
SELECT pg_backend_pid() AS pid,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = $1) AS role_name,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = $2) AS attic_name,
       ARRAY(SELECT p.oid::regprocedure::text FROM portion AS o
             JOIN pg_proc AS p ON o.classid = 'pg_proc'::regclass AND p.oid = o.objid
             WHERE p.prosecdef ORDER BY p.oid)::text[] AS definers,
       ARRAY(SELECT quote_ident(n.nspname) FROM portion AS o
             JOIN pg_namespace AS n ON o.classid = 'pg_namespace'::regclass AND n.oid = o.objid
             ORDER BY n.oid)::text[] AS schemas,
       -- Triggers of others' tables that run its routines, for whoever changes such a table.
       ARRAY(SELECT format('%I ON %I.%I', t.tgname, n.nspname, c.relname) FROM portion AS o
             JOIN pg_trigger AS t ON o.classid = 'pg_proc'::regclass AND t.tgfoid = o.objid
             JOIN pg_class AS c ON c.oid = t.tgrelid
             JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE NOT t.tgisinternal AND c.relowner <> $1
             ORDER BY t.oid LIMIT 25)::text[] AS triggers,
       -- What has no owner, hangs on its objects, and nobody but it or a superuser can have made.
       ARRAY((SELECT format('DROP USER MAPPING FOR PUBLIC SERVER %I', f.srvname)
              FROM pg_foreign_server AS f
              JOIN pg_user_mappings AS u ON u.srvid = f.oid AND u.umuser = 0
              WHERE f.srvowner = $1 LIMIT $3)
           UNION ALL
             (SELECT format('DROP CAST (%s AS %s)',
                            format_type(c.castsource, NULL), format_type(c.casttarget, NULL))
              FROM pg_cast AS c JOIN pg_type AS a ON a.oid = c.castsource
              JOIN pg_type AS b ON b.oid = c.casttarget
              WHERE ((a.typowner = $1 AND b.typowner IN ($1, 10))
                     OR (a.typowner = 10 AND b.typowner = $1))
                AND NOT EXISTS (SELECT FROM pg_depend AS d
                    WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid
                      AND d.deptype <> 'n')
              LIMIT $3)
             LIMIT $3)::text[] AS parts,
       (SELECT count(*) FROM (SELECT FROM owned LIMIT $4) AS o) AS owned,
       ARRAY(SELECT s.type FROM shown AS s ORDER BY s.type, s.identity)::text[] AS types,
       ARRAY(SELECT s.identity FROM shown AS s ORDER BY s.type, s.identity)::text[] AS identities,
       ARRAY(SELECT current_database() FROM shown)::text[] AS places,
       ARRAY(SELECT n.type FROM named AS n WHERE n.is_text
             ORDER BY n.classid, n.objid)::text[] AS portion_types,
       ARRAY(SELECT n.identity FROM named AS n WHERE n.is_text
             ORDER BY n.classid, n.objid)::text[] AS portion_identities,
       ARRAY(SELECT a.classid FROM about AS a ORDER BY a.classid, a.objid)::oid[] AS portion_classes,
       ARRAY(SELECT a.objid FROM about AS a ORDER BY a.classid, a.objid)::oid[] AS portion_oids,
       -- Its own mappings go with it, unless there are too many.
       ARRAY(SELECT format('DROP USER MAPPING FOR %I SERVER %I', u.usename, u.srvname)
             FROM pg_user_mappings AS u WHERE u.umuser = $1 LIMIT $3)::text[] AS mappings
