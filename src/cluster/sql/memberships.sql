-- All memberships that a role has, gives or has handed on.  $1  its OID   $2  the brokers' group, or ''
SELECT m.member = $1 AS is_member, m.roleid = $1 AS is_group,
       g.rolname::text AS group_name, e.rolname::text AS member_name, b.rolname::text AS grantor_name,
       e.rolname IN (current_user, $2::text::name) OR EXISTS (
           SELECT FROM pg_auth_members AS brokers
           JOIN pg_roles AS r ON r.oid = brokers.roleid
           WHERE r.rolname = $2::text::name AND brokers.member = m.member
       ) AS member_is_broker
FROM pg_auth_members AS m
JOIN pg_roles AS g ON g.oid = m.roleid
JOIN pg_roles AS e ON e.oid = m.member
LEFT JOIN pg_roles AS b ON b.oid = m.grantor
WHERE m.member = $1 OR m.roleid = $1 OR m.grantor = $1
ORDER BY group_name, member_name, grantor_name
