-- What is left of a role.  $1  its OID
--
-- Before 16 the grantor of a membership has no index; the table is read for it.
SELECT EXISTS (SELECT FROM pg_roles WHERE oid = $1) AS role,
       ARRAY(SELECT coalesce(d.datname, 'shared objects') FROM pg_shdepend AS s
             LEFT JOIN pg_database AS d ON d.oid = s.dbid
             WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1
               AND (s.dbid = 0 OR d.oid IS NOT NULL)
             GROUP BY d.datname ORDER BY d.datname LIMIT 25)::text[] AS dependencies,
       ARRAY(SELECT format('%I FROM %I', g.rolname, r.rolname) FROM pg_auth_members AS m
             LEFT JOIN pg_roles AS g ON g.oid = m.roleid
             LEFT JOIN pg_roles AS r ON r.oid = m.member
             WHERE m.roleid = $1 OR m.member = $1 OR m.grantor = $1
             ORDER BY g.rolname, r.rolname LIMIT 25)::text[] AS memberships,
       EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = $1) AS settings
