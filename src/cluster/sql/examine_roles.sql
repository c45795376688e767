-- Roles that a configuration names, and what the broker's login is to them.
--   $1  their names, in the order of the answer   $2  what every mark on a lease role begins with
--
-- Since 16 a membership has options, and ADMIN works only for who inherits it: hence USAGE of the
-- role that holds ADMIN. What the server's own roles (OIDs below 16384) give stands in no ACL; a right
-- on what is made later is none yet, and CONNECT none in a database; CREATE is, and an owner has it.
SELECT w.name,
       r.oid IS NOT NULL AS known,
       coalesce(r.rolcanlogin, false) AS can_login,
       array_remove(ARRAY[
           CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
           CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
           CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
           CASE WHEN r.rolreplication THEN 'REPLICATION' END,
           CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END
       ], NULL)::text[] AS attributes,
       coalesce(pg_has_role(current_user, r.oid, 'USAGE'), false) AS inherited,
       coalesce(CASE
           WHEN current_setting('server_version_num')::int >= 160000 THEN pg_has_role(current_user, r.oid, 'SET')
           ELSE pg_has_role(current_user, r.oid, 'MEMBER')
       END, false) AS can_be_set,
       EXISTS (
           SELECT FROM pg_auth_members AS m
           WHERE m.roleid = r.oid AND m.admin_option AND pg_has_role(current_user, m.member, 'USAGE')
       ) AS can_be_granted,
       ARRAY(
           SELECT DISTINCT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
           WHERE m.member = r.oid ORDER BY 1 LIMIT 1000
       ) AS groups,
       ARRAY(
           SELECT DISTINCT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.member
           WHERE m.roleid = r.oid AND g.rolname <> current_user
             AND NOT coalesce(starts_with(left(shobj_description(g.oid, 'pg_authid'), 300), $2), false)
           ORDER BY 1 LIMIT 1000
       ) AS members,
       EXISTS (
           WITH RECURSIVE reached (oid) AS (
               SELECT r.oid
             UNION
               SELECT m.roleid FROM reached JOIN pg_auth_members AS m ON m.member = reached.oid
           )
           SELECT FROM reached
           WHERE reached.oid < 16384
              OR EXISTS (SELECT FROM pg_roles AS p WHERE p.oid = reached.oid AND p.rolsuper)
              OR EXISTS (SELECT FROM pg_database AS d WHERE has_database_privilege(reached.oid, d.oid, 'CREATE'))
              OR EXISTS (SELECT FROM pg_shdepend AS s
                         WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = reached.oid
                           AND s.deptype IN ('a', 'o') AND s.dbid <> 0
                           AND s.classid <> 'pg_default_acl'::regclass)
       ) AS has_rights
FROM unnest($1::text[]) WITH ORDINALITY AS w (name, place)
LEFT JOIN pg_roles AS r ON r.rolname = w.name::name
ORDER BY w.place
