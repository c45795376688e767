-- What must be known before a role is lent.
--   $1  the group role            $2  the brokers' group, or ''
--   $3  the attic role, or ''     $4  what every mark on a lease role begins with
--   $5  lease roles of ours: whom they made their members themselves does not count
--
-- Until 14 a role can make any other its member, and let that do the same. It gives away what it
-- has itself, and can to every role, so that is no reason not to lend another.
--
-- "Reaches" goes over every membership, also those without INHERIT or SET: what cannot be used
-- today can be with one more GRANT. OFFSET 0 has each role looked up by index, one at a time: a
-- plan made while there were few roles is kept when there are many.
WITH RECURSIVE reached (oid) AS (
    SELECT r.oid FROM pg_roles AS r WHERE r.rolname = $1::text::name
  UNION
    SELECT m.roleid
    FROM reached
    CROSS JOIN LATERAL (
        SELECT a.roleid FROM pg_auth_members AS a
        WHERE a.member = reached.oid AND NOT (a.roleid = ANY ($5::oid[]) AND (
            a.grantor = a.roleid OR EXISTS (
                SELECT FROM pg_auth_members AS o
                WHERE o.roleid = a.roleid AND o.member = a.grantor
                  AND o.member <> (SELECT b.oid FROM pg_roles AS b WHERE b.rolname = current_user))))
        OFFSET 0
    ) AS m
), lease_role (oid, comment) AS (
    SELECT reached.oid, left(d.description, 300)
    FROM reached JOIN pg_shdescription AS d
      ON d.objoid = reached.oid AND d.classoid = 'pg_authid'::regclass
    WHERE starts_with(left(d.description, 300), $4)
    LIMIT 100
)
SELECT now() AS server_time,
       current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS standby,
       EXISTS (SELECT FROM reached) AS known,
       ARRAY(SELECT l.oid FROM lease_role AS l ORDER BY l.oid)::oid[] AS lease_roles,
       ARRAY(SELECT l.comment FROM lease_role AS l ORDER BY l.oid)::text[] AS lease_comments,
       ARRAY(
           SELECT r.rolname || ' ' || CASE
                   WHEN r.rolsuper THEN 'is a superuser'
                   WHEN r.rolname = current_user THEN 'is the broker''s own login'
                   WHEN r.rolname = $2::text::name THEN 'is the brokers'' group'
                   WHEN r.rolname = $3::text::name THEN 'is the attic'
                   WHEN r.rolcreaterole THEN 'may make roles (CREATEROLE)'
                   WHEN r.rolreplication THEN 'may copy the whole cluster (REPLICATION)'
                   WHEN r.rolbypassrls THEN 'passes by row security (BYPASSRLS)'
                   WHEN r.rolname LIKE 'pg\_%' THEN 'reaches the server''s programs or files'
                   ELSE 'is a lease role'
               END
           FROM reached
           CROSS JOIN LATERAL (
               SELECT oid, rolname, rolsuper, rolcreaterole, rolreplication, rolbypassrls
               FROM pg_roles WHERE oid = reached.oid OFFSET 0
           ) AS r
           WHERE r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls
              OR r.rolname IN (current_user, $2::text::name, $3::text::name,
                      'pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
              OR coalesce((
                  SELECT starts_with(left(d.description, 300), $4) FROM pg_shdescription AS d
                  WHERE d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
              ), false)
           ORDER BY r.rolname
           LIMIT 25
       )::text[] AS too_powerful
