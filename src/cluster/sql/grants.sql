-- Privileges in this database that a role has, or has given: some of them, not all.
--   $1  its OID   $2  how many at most   $3  those to read, as `which` says below
--   $4, $5  catalogues and OIDs of objects of its own whose privileges are read besides
--
-- One row for each object or column, grantor and grantee; no grantee means PUBLIC. What stands in
-- the server's defaults for a new object is left out: nobody gave it. `target` and `privileges` are
-- quoted for use in REVOKE.
--
-- Which: 'ours' are those that the broker can take back, 'all' are those and the others. The role's
-- holder can make any number: each object is looked up by itself, so that nothing is read beyond
-- the last row that is given.
SELECT * FROM (
    SELECT o.prefix, o.target, a.privileges,
           (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = a.grantor) AS grantor,
           (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = a.grantee) AS grantee,
           o.owner = $1 AS of_own, a.grantor = $1 AS by_role, a.can_act
    FROM (
        SELECT d.classid, d.objid, d.objsubid FROM pg_shdepend AS d
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'a'
          AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
      UNION ALL
        SELECT p.classid, p.objid, x.objsubid FROM unnest($4::oid[], $5::oid[]) AS p (classid, objid)
        CROSS JOIN LATERAL (
            SELECT 0 AS objsubid
          UNION ALL
            SELECT t.attnum FROM pg_attribute AS t
            WHERE p.classid = 'pg_class'::regclass AND t.attrelid = p.objid AND t.attnum > 0
              AND t.attacl IS NOT NULL AND NOT t.attisdropped
        ) AS x
    ) AS s
    CROSS JOIN LATERAL (
        SELECT '' AS prefix, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END
                   || quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS target,
               NULL::text AS attribute, c.relowner AS owner, c.relacl AS acl,
               acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) AS defaults
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE s.classid = 'pg_class'::regclass AND c.oid = s.objid AND s.objsubid = 0
      UNION ALL
        SELECT '', 'TABLE ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname),
               quote_ident(t.attname), c.relowner, t.attacl, NULL::aclitem[]
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_attribute AS t ON t.attrelid = c.oid AND t.attnum = s.objsubid
        WHERE s.classid = 'pg_class'::regclass AND c.oid = s.objid AND s.objsubid <> 0
          AND NOT t.attisdropped
      UNION ALL
        SELECT '', 'ROUTINE ' || p.oid::regprocedure::text, NULL,
               p.proowner, p.proacl, acldefault('f', p.proowner)
        FROM pg_proc AS p WHERE s.classid = 'pg_proc'::regclass AND p.oid = s.objid
      UNION ALL
        SELECT '', 'SCHEMA ' || quote_ident(n.nspname), NULL,
               n.nspowner, n.nspacl, acldefault('n', n.nspowner)
        FROM pg_namespace AS n WHERE s.classid = 'pg_namespace'::regclass AND n.oid = s.objid
      UNION ALL
        SELECT '', 'TYPE ' || quote_ident(n.nspname) || '.' || quote_ident(t.typname), NULL,
               t.typowner, t.typacl, acldefault('T', t.typowner)
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE s.classid = 'pg_type'::regclass AND t.oid = s.objid
      UNION ALL
        SELECT '', 'LANGUAGE ' || quote_ident(l.lanname), NULL,
               l.lanowner, l.lanacl, acldefault('l', l.lanowner)
        FROM pg_language AS l WHERE s.classid = 'pg_language'::regclass AND l.oid = s.objid
      UNION ALL
        SELECT '', 'FOREIGN DATA WRAPPER ' || quote_ident(f.fdwname), NULL,
               f.fdwowner, f.fdwacl, acldefault('F', f.fdwowner)
        FROM pg_foreign_data_wrapper AS f
        WHERE s.classid = 'pg_foreign_data_wrapper'::regclass AND f.oid = s.objid
      UNION ALL
        SELECT '', 'FOREIGN SERVER ' || quote_ident(f.srvname), NULL,
               f.srvowner, f.srvacl, acldefault('S', f.srvowner)
        FROM pg_foreign_server AS f
        WHERE s.classid = 'pg_foreign_server'::regclass AND f.oid = s.objid
      UNION ALL
        SELECT '', 'LARGE OBJECT ' || l.oid, NULL,
               l.lomowner, l.lomacl, acldefault('L', l.lomowner)
        FROM pg_largeobject_metadata AS l
        WHERE s.classid IN ('pg_largeobject'::regclass, 'pg_largeobject_metadata'::regclass)
          AND l.oid = s.objid
      UNION ALL
        -- Its own default privileges go with it, but for those in a schema: there can be too many.
        SELECT 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(r.rolname)
                   || coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') || ' ',
               CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
                   WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS'
                   ELSE 'LARGE OBJECTS' END, NULL,
               d.defaclrole, d.defaclacl, NULL::aclitem[]
        FROM pg_default_acl AS d
        JOIN pg_roles AS r ON r.oid = d.defaclrole
        LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
        WHERE s.classid = 'pg_default_acl'::regclass AND d.oid = s.objid
          AND (d.defaclrole <> $1 OR d.defaclnamespace <> 0)
        OFFSET 0
    ) AS o
    CROSS JOIN LATERAL (
        SELECT e.grantor, e.grantee,
               string_agg(e.privilege_type || coalesce(' (' || o.attribute || ')', ''), ', '
                   ORDER BY e.privilege_type) AS privileges,
               pg_has_role(current_user, e.grantor, CASE
                   WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
               END) AS can_act
        FROM aclexplode(o.acl) AS e
        WHERE (e.grantor = $1 OR e.grantee = $1)
          AND (e.grantor <> e.grantee OR s.classid = 'pg_default_acl'::regclass)
          AND NOT EXISTS (
              SELECT FROM aclexplode(o.defaults) AS d
              WHERE d.grantee = e.grantee AND d.privilege_type = e.privilege_type
                AND d.is_grantable = e.is_grantable AND e.grantor = o.owner)
        GROUP BY e.grantor, e.grantee
        OFFSET 0
    ) AS a
    WHERE CASE $3::text WHEN 'ours' THEN a.grantor = $1 OR (o.owner <> $1 AND a.can_act) ELSE true END
    LIMIT $2
) AS found
ORDER BY target, prefix, privileges, grantor, grantee
