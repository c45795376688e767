-- What is left of a role.  $1  its OID
--
-- Before 16 the grantor of a membership has no index; the table is read for it. There a membership that
-- is granted in the moment of the drop can outlive it: it has no name by which it could be revoked.
SELECT EXISTS (SELECT FROM pg_roles WHERE oid = $1) AS role,
       ARRAY(SELECT coalesce(d.datname, 'shared objects') FROM pg_shdepend AS s
             LEFT JOIN pg_database AS d ON d.oid = s.dbid
             WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1
               AND (s.dbid = 0 OR d.oid IS NOT NULL)
             GROUP BY d.datname ORDER BY d.datname LIMIT 25)::text[] AS dependencies,
       ARRAY(SELECT CASE WHEN g.oid IS NULL OR r.oid IS NULL
                 THEN format('DELETE FROM pg_auth_members WHERE roleid = %s AND member = %s',
                             m.roleid, m.member)
                 ELSE 'REVOKE ' || quote_ident(g.rolname) || ' FROM ' || quote_ident(r.rolname) END
             FROM pg_auth_members AS m
             LEFT JOIN pg_roles AS g ON g.oid = m.roleid
             LEFT JOIN pg_roles AS r ON r.oid = m.member
             WHERE m.roleid = $1 OR m.member = $1 OR m.grantor = $1
             ORDER BY g.rolname, r.rolname LIMIT 25)::text[] AS memberships,
       EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = $1) AS settings
