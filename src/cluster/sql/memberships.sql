-- All memberships that a role has, gives or has handed on.  $1  its OID   $2  the brokers' group, or ''
--
-- Three parts, each by an index of its own, and names looked up one at a time. What it has handed on has no index before 16, and is
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
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = m.roleid) AS group_name,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = m.member) AS member_name,
       (SELECT r.rolname::text FROM pg_roles AS r WHERE r.oid = m.grantor) AS grantor_name,
       m.member = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
           OR m.member = coalesce((SELECT r.oid FROM pg_roles AS r WHERE r.rolname = $2::text::name), 0)
           OR (SELECT count(*) FROM pg_auth_members AS brokers
               WHERE brokers.member = m.member AND brokers.roleid =
                   (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = $2::text::name)
              ) > 0 AS member_is_broker
FROM found AS m
ORDER BY group_name, member_name, grantor_name
