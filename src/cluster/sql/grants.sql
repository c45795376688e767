-- Every privilege in this database that a role has, or has given.  $1  its OID
--
-- One row for each object (or column), grantor and grantee; no grantee means PUBLIC. What stands in
-- the server's defaults for a new object is left out: nobody gave it. `target` and `privileges` are
-- quoted for use in REVOKE.
WITH s AS (
    SELECT DISTINCT d.classid, d.objid, d.deptype = 'o' AS owned
    FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype IN ('a', 'o')
      AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
), o (prefix, target, attribute, owner, acl, defaults) AS (
    SELECT '', CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
               || quote_ident(n.nspname) || '.' || quote_ident(c.relname), NULL::text,
           c.relowner, c.relacl,
           acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)
    FROM s JOIN pg_class AS c ON s.classid = 'pg_class'::regclass AND c.oid = s.objid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
  UNION ALL
    SELECT '', 'TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
           quote_ident(a.attname), c.relowner, a.attacl, NULL::aclitem[]
    FROM s JOIN pg_class AS c ON s.classid = 'pg_class'::regclass AND c.oid = s.objid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attacl IS NOT NULL AND NOT a.attisdropped
  UNION ALL
    SELECT '', 'ROUTINE ' || p.oid::regprocedure::text, NULL,
           p.proowner, p.proacl, acldefault('f', p.proowner)
    FROM s JOIN pg_proc AS p ON s.classid = 'pg_proc'::regclass AND p.oid = s.objid
  UNION ALL
    SELECT '', 'SCHEMA ' || quote_ident(n.nspname), NULL,
           n.nspowner, n.nspacl, acldefault('n', n.nspowner)
    FROM s JOIN pg_namespace AS n ON s.classid = 'pg_namespace'::regclass AND n.oid = s.objid
  UNION ALL
    SELECT '', 'TYPE ' || quote_ident(n.nspname) || '.' || quote_ident(t.typname), NULL,
           t.typowner, t.typacl, acldefault('T', t.typowner)
    FROM s JOIN pg_type AS t ON s.classid = 'pg_type'::regclass AND t.oid = s.objid
    JOIN pg_namespace AS n ON n.oid = t.typnamespace
  UNION ALL
    SELECT '', 'LANGUAGE ' || quote_ident(l.lanname), NULL,
           l.lanowner, l.lanacl, acldefault('l', l.lanowner)
    FROM s JOIN pg_language AS l ON s.classid = 'pg_language'::regclass AND l.oid = s.objid
  UNION ALL
    SELECT '', 'FOREIGN DATA WRAPPER ' || quote_ident(f.fdwname), NULL,
           f.fdwowner, f.fdwacl, acldefault('F', f.fdwowner)
    FROM s JOIN pg_foreign_data_wrapper AS f
      ON s.classid = 'pg_foreign_data_wrapper'::regclass AND f.oid = s.objid
  UNION ALL
    SELECT '', 'FOREIGN SERVER ' || quote_ident(f.srvname), NULL,
           f.srvowner, f.srvacl, acldefault('S', f.srvowner)
    FROM s JOIN pg_foreign_server AS f
      ON s.classid = 'pg_foreign_server'::regclass AND f.oid = s.objid
  UNION ALL
    SELECT '', 'LARGE OBJECT ' || l.oid, NULL,
           l.lomowner, l.lomacl, acldefault('L', l.lomowner)
    FROM s JOIN pg_largeobject_metadata AS l
      ON s.classid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass)
     AND l.oid = s.objid
  UNION ALL
    -- Its own default privileges go with it.
    SELECT 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(r.rolname)
               || coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') || ' ',
           CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
               WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS'
               ELSE 'LARGE OBJECTS' END, NULL,
           d.defaclrole, d.defaclacl, NULL::aclitem[]
    FROM s JOIN pg_default_acl AS d ON s.classid = 'pg_default_acl'::regclass AND d.oid = s.objid
    JOIN pg_roles AS r ON r.oid = d.defaclrole
    LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
    WHERE d.defaclrole <> $1
), entry AS (
    SELECT o.prefix, o.target, o.owner, a.grantor, a.grantee,
           string_agg(a.privilege_type || coalesce(' (' || o.attribute || ')', ''), ', '
               ORDER BY o.attribute, a.privilege_type) AS privileges
    FROM o CROSS JOIN LATERAL aclexplode(o.acl) AS a
    WHERE (a.grantor = $1 OR a.grantee = $1) AND a.grantor <> a.grantee
      AND NOT EXISTS (
          SELECT FROM aclexplode(o.defaults) AS d
          WHERE d.grantee = a.grantee AND d.privilege_type = a.privilege_type
            AND d.is_grantable = a.is_grantable AND a.grantor = o.owner)
    GROUP BY o.prefix, o.target, o.owner, a.grantor, a.grantee
)
SELECT e.prefix, e.target, e.privileges,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = e.grantor) AS grantor,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = e.grantee) AS grantee,
       e.owner = $1 AS of_own, e.grantor = $1 AS by_role,
       pg_has_role(current_user, e.grantor, CASE
           WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
       END) AS can_act
FROM entry AS e
ORDER BY e.target, e.prefix, grantor, grantee
