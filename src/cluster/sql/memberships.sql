-- All memberships that a role has, gives or has handed on.  $1  its OID   $2  the brokers' group, or ''
--
-- Three parts, each by an index of its own. What it has handed on has no index before 16, and is
-- looked for only if the role was given ADMIN on something.
WITH found AS (
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m WHERE m.member = $1
  UNION ALL
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m WHERE m.roleid = $1
  UNION ALL
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m
    WHERE m.grantor = $1 AND m.member <> $1 AND m.roleid <> $1
      AND (SELECT bool_or(own.admin_option) FROM pg_auth_members AS own WHERE own.member = $1)
)
SELECT m.member = $1 AS is_member, m.roleid = $1 AS is_group,
       g.rolname::text AS group_name, e.rolname::text AS member_name,
       b.rolname::text AS grantor_name,
       e.rolname IN (current_user, $2::text::name) OR EXISTS (
           SELECT FROM pg_auth_members AS brokers
           JOIN pg_roles AS r ON r.oid = brokers.roleid
           WHERE r.rolname = $2::text::name AND brokers.member = m.member
       ) AS member_is_broker
FROM found AS m
JOIN pg_roles AS g ON g.oid = m.roleid
JOIN pg_roles AS e ON e.oid = m.member
LEFT JOIN pg_roles AS b ON b.oid = m.grantor
ORDER BY group_name, member_name, grantor_name
