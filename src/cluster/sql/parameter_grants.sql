-- Privileges on parameters of the server that a role has, or has given; since 15.
--   $1  its OID   $2  how many at most   $3  'ours' or 'all'
--
-- The columns, and which are 'ours', are those of grants.sql.
SELECT * FROM (
    SELECT '' AS prefix, 'PARAMETER ' || quote_ident(p.parname) AS target,
           string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges,
           g.rolname::text AS grantor, r.rolname::text AS grantee,
           false AS of_own, a.grantor = $1 AS by_role,
           pg_has_role(current_user, a.grantor, CASE
               WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER'
           END) AS can_act
    FROM (
        SELECT DISTINCT d.objid FROM pg_shdepend AS d
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $1 AND d.deptype = 'a'
          AND d.dbid = 0 AND d.classid = 'pg_parameter_acl'::regclass
    ) AS s
    JOIN pg_parameter_acl AS p ON p.oid = s.objid
    CROSS JOIN LATERAL aclexplode(p.paracl) AS a
    JOIN pg_roles AS g ON g.oid = a.grantor
    LEFT JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE $1 IN (a.grantor, a.grantee) AND a.grantor <> a.grantee
    GROUP BY p.parname, g.rolname, r.rolname, a.grantor
) AS e
WHERE e.by_role OR e.can_act OR $3::text = 'all'
ORDER BY e.target, e.grantor, e.grantee
LIMIT $2
