-- Which roles some roles are members of: directly or through others, whatever INHERIT, SET and
-- ADMIN say. That is what a `+role` of a map asks. Superusers are members only of what they were
-- made members of, as everybody.
--   $1  the roles
--
-- One row for each role that exists, and one more for each membership that it reaches. The bytes
-- of a name are those of the catalogue, whatever encoding they are meant in; a role that was asked
-- for is given by its number in $1, from 1. OFFSET 0 has each role looked up by index, one at a
-- time: a plan made while there were few roles is kept when there are many.
WITH RECURSIVE asked (number, oid) AS (
    SELECT a.number, r.oid
    FROM unnest($1::text[]) WITH ORDINALITY AS a (name, number)
    JOIN pg_roles AS r ON r.rolname = a.name::name
), reached (number, member, oid) AS (
    SELECT asked.number, NULL::oid, asked.oid FROM asked
  UNION
    SELECT reached.number, reached.oid, m.roleid
    FROM reached
    CROSS JOIN LATERAL (
        SELECT roleid FROM pg_auth_members WHERE member = reached.oid OFFSET 0
    ) AS m
)
SELECT reached.number,
       (SELECT replace(r.rolname::text, '\', '\\')::bytea FROM pg_roles AS r
        WHERE r.oid = reached.member AND NOT EXISTS (
            SELECT FROM asked WHERE asked.oid = r.oid AND asked.number = reached.number
        )) AS member_name,
       (SELECT replace(r.rolname::text, '\', '\\')::bytea FROM pg_roles AS r
        WHERE r.oid = reached.oid AND reached.member IS NOT NULL) AS group_name
FROM reached
ORDER BY reached.number, member_name NULLS FIRST, group_name NULLS FIRST
