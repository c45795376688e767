-- Privileges on databases and tablespaces that a role has, or has given: some of them, not all.
--   $1  its OID   $2  how many at most   $3  'ours' or 'all'
--
-- The columns, and which are 'ours', are those of grants.sql.
WITH s AS (
    SELECT DISTINCT d.classid, d.objid FROM pg_shdepend AS d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype IN ('a', 'o')
      AND d.dbid = 0
), o (target, owner, acl, defaults) AS (
    SELECT 'DATABASE ' || quote_ident(b.datname), b.datdba, b.datacl, acldefault('d', b.datdba)
    FROM s JOIN pg_database AS b ON s.classid = 'pg_database'::regclass AND b.oid = s.objid
  UNION ALL
    SELECT 'TABLESPACE ' || quote_ident(t.spcname), t.spcowner, t.spcacl, acldefault('t', t.spcowner)
    FROM s JOIN pg_tablespace AS t ON s.classid = 'pg_tablespace'::regclass AND t.oid = s.objid
), entry AS (
    SELECT o.target, o.owner, a.grantor, a.grantee,
           string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges,
           pg_has_role(current_user, a.grantor, CASE
               WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
           END) AS can_act
    FROM o CROSS JOIN LATERAL aclexplode(o.acl) AS a
    WHERE (a.grantor = $1 OR a.grantee = $1) AND a.grantor <> a.grantee
      AND NOT EXISTS (
          SELECT FROM aclexplode(o.defaults) AS d
          WHERE d.grantee = a.grantee AND d.privilege_type = a.privilege_type
            AND d.is_grantable = a.is_grantable AND a.grantor = o.owner)
    GROUP BY o.target, o.owner, a.grantor, a.grantee
)
SELECT '' AS prefix, e.target, e.privileges,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = e.grantor) AS grantor,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = e.grantee) AS grantee,
       e.owner = $1 AS of_own, e.grantor = $1 AS by_role, e.can_act
FROM entry AS e
WHERE CASE $3::text WHEN 'ours' THEN e.owner <> $1 AND (e.grantor = $1 OR e.can_act) ELSE true END
ORDER BY e.target, grantor, grantee
LIMIT $2
