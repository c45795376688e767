-- The databases that a configuration names, and every other that can be connected to.
--   $1  those it names   $2  the group roles it names
SELECT w.name,
       w.name = ANY ($1::text[]) AS wanted,
       d.oid IS NOT NULL AS known,
       coalesce(d.datallowconn, false) AS connectable,
       coalesce(has_database_privilege(current_user, d.oid, 'CONNECT'), false) AS broker_connects,
       coalesce(has_database_privilege('public', d.oid, 'CONNECT'), false) AS public_connects,
       coalesce(has_database_privilege('public', d.oid, 'TEMPORARY'), false) AS public_temporary,
       ARRAY(
           SELECT r.rolname::text FROM pg_roles AS r
           WHERE r.rolname::text = ANY ($2::text[]) AND NOT has_database_privilege(r.oid, d.oid, 'CONNECT')
           ORDER BY r.rolname
       ) AS shut_out
FROM (
    SELECT unnest($1::text[]) UNION SELECT datname::text FROM pg_database WHERE datallowconn
) AS w (name)
LEFT JOIN pg_database AS d ON d.datname = w.name::name
ORDER BY w.name
