-- Policies of row security on others' tables in this database that name a role: some of them.
--   $1  its OID   $2  how many at most   $3  'ours': those that the broker can change; 'all'
--
-- `others` are the roles that each applies to besides, quoted for use in ALTER POLICY.
SELECT * FROM (
    SELECT quote_ident(p.polname) AS policy,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS "table",
           ARRAY(SELECT coalesce(quote_ident(r.rolname), 'PUBLIC')
                 FROM unnest(p.polroles) AS o (oid) LEFT JOIN pg_roles AS r ON r.oid = o.oid
                 WHERE o.oid <> $1 ORDER BY r.rolname)::text[] AS others,
           w.rolname::text AS owner, false AS of_own, x.can_act
    FROM (
        SELECT d.objid FROM pg_shdepend AS d
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'r'
          AND d.classid = 'pg_policy'::regclass
          AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
        OFFSET 0
    ) AS s
    JOIN pg_policy AS p ON p.oid = s.objid
    JOIN pg_class AS c ON c.oid = p.polrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_roles AS w ON w.oid = c.relowner
    CROSS JOIN LATERAL (SELECT pg_has_role(current_user, w.oid, CASE
            WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
        END) AS can_act OFFSET 0) AS x
    WHERE w.oid <> $1 AND ($3::text = 'all' OR x.can_act)
    LIMIT $2
) AS found
ORDER BY "table", policy
