-- What the broker is to a role, and which server this is.  $1  the role's OID
SELECT current_setting('server_version_num')::int AS version,
       now() AS server_time,
       pg_has_role(current_user, r.oid, 'USAGE')
           AND pg_has_role(current_user, r.oid,
                   CASE WHEN current_setting('server_version_num')::int >= 160000
                        THEN 'SET' ELSE 'MEMBER' END) AS is_member
FROM pg_roles AS r
WHERE r.oid = $1
