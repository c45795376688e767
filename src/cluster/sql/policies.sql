-- Policies of row security in this database that name a role.  $1  its OID
--
-- `others` are the roles that each applies to besides, quoted for use in ALTER POLICY.
SELECT quote_ident(p.polname) AS policy, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS "table",
       ARRAY(SELECT coalesce(quote_ident(r.rolname), 'PUBLIC')
             FROM unnest(p.polroles) AS o (oid) LEFT JOIN pg_roles AS r ON r.oid = o.oid
             WHERE o.oid <> $1 ORDER BY r.rolname)::text[] AS others,
       w.rolname::text AS owner, w.oid = $1 AS of_own,
       pg_has_role(current_user, w.oid, CASE
           WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
       END) AS can_act
FROM pg_shdepend AS d
JOIN pg_policy AS p ON p.oid = d.objid
JOIN pg_class AS c ON c.oid = p.polrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_roles AS w ON w.oid = c.relowner
WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'r'
  AND d.classid = 'pg_policy'::regclass
  AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
ORDER BY p.oid
