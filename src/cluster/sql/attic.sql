-- What the attic role is, and what it reaches.  $1  its name   $2  what marks begin with
--
-- A lease role that made itself the attic's member or group is ended like any other.
SELECT a.oid, a.rolcanlogin AS can_login,
       a.rolsuper OR a.rolcreaterole OR a.rolcreatedb OR a.rolreplication OR a.rolbypassrls
           AS has_attributes,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members AS m
             JOIN pg_roles AS g ON g.oid = m.roleid
             LEFT JOIN pg_shdescription AS d
               ON d.objoid = g.oid AND d.classoid = 'pg_authid'::regclass
             WHERE m.member = a.oid AND NOT coalesce(starts_with(left(d.description, 300), $2), false)
             GROUP BY g.rolname ORDER BY g.rolname LIMIT 25)::text[] AS groups
FROM pg_roles AS a
WHERE a.rolname = $1::text::name
