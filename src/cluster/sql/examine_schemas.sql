-- Where things can be made in this database, and by whom: the first 1000 places, the most open first.
-- No schema stands for the database itself, where schemas are made.
--   $1  the group roles   $2  the attic role, or ''
WITH attic AS (SELECT oid FROM pg_roles WHERE rolname = $2::text::name),
     groups AS (SELECT oid, rolname::text AS name FROM pg_roles WHERE rolname::text = ANY ($1::text[]))
SELECT * FROM (
    SELECT n.nspname::text AS schema,
           has_schema_privilege('public', n.oid, 'CREATE') AS public_creates,
           ARRAY(SELECT g.name FROM groups AS g WHERE has_schema_privilege(g.oid, n.oid, 'CREATE') ORDER BY g.name) AS groups_create,
           EXISTS (SELECT FROM attic AS a WHERE has_schema_privilege(a.oid, n.oid, 'CREATE')) AS attic_creates
    FROM pg_namespace AS n
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND NOT starts_with(n.nspname::text, 'pg_temp_') AND NOT starts_with(n.nspname::text, 'pg_toast_temp_')
    UNION ALL
    SELECT NULL,
           has_database_privilege('public', d.oid, 'CREATE'),
           ARRAY(SELECT g.name FROM groups AS g WHERE has_database_privilege(g.oid, d.oid, 'CREATE') ORDER BY g.name),
           EXISTS (SELECT FROM attic AS a WHERE has_database_privilege(a.oid, d.oid, 'CREATE'))
    FROM pg_database AS d
    WHERE d.datname = current_database()
) AS place
ORDER BY schema IS NOT NULL, public_creates DESC, attic_creates, schema
LIMIT 1000
