-- All memberships that a role has, gives or has handed on.
--   $1  its OID   $2  the brokers' group, or ''   $3  whether to look for those it has handed on
--                                                     although it has ADMIN on nothing now
--   $4  how many at most: its groups first
--
-- Three parts, each by an index of its own, and names looked up one at a time. What it has handed
-- on has no index before 16; the table is read for it only when asked for ($3), or when the role
-- reaches ADMIN on something, by itself or through a group.
WITH RECURSIVE reached (oid) AS (
    SELECT $1::oid
  UNION
    SELECT m.roleid FROM reached CROSS JOIN LATERAL (
        SELECT roleid FROM pg_auth_members WHERE member = reached.oid OFFSET 0
    ) AS m
), found AS (
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m WHERE m.member = $1
  UNION ALL
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m WHERE m.roleid = $1
  UNION ALL
    SELECT m.roleid, m.member, m.grantor FROM pg_auth_members AS m
    WHERE m.grantor = $1 AND m.member <> $1 AND m.roleid <> $1
      AND (SELECT $3 OR bool_or(own.admin_option) FROM reached CROSS JOIN LATERAL (
               SELECT admin_option FROM pg_auth_members WHERE member = reached.oid OFFSET 0
           ) AS own)
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
ORDER BY m.member = $1 DESC, group_name, member_name, grantor_name
LIMIT $4
