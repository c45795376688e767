-- What the broker's login is and may do.
--
-- pg_signal_backend counts as it does where sessions are ended (broker.sql): by a membership of the login's own, with INHERIT and SET.
SELECT r.rolsuper AS superuser,
       r.rolcreaterole AS can_create_roles,
       r.rolconnlimit AS connection_limit,
       coalesce(r.rolvaliduntil < 'infinity', false) AS expires,
       array_remove(ARRAY[
           CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
           CASE WHEN r.rolreplication THEN 'REPLICATION' END,
           CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END
       ], NULL)::text[] AS needless,
       EXISTS (
           SELECT FROM pg_auth_members AS m
           WHERE m.roleid = 'pg_signal_backend'::regrole AND m.member = r.oid
             AND coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
             AND coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
       ) AS may_signal,
       ARRAY(
           SELECT p.rolname::text FROM pg_roles AS p
           WHERE p.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
             AND pg_has_role(r.oid, p.oid, 'MEMBER')
           ORDER BY p.rolname
       ) AS powers,
       has_table_privilege('pg_catalog.pg_hba_file_rules', 'SELECT')
           AND has_function_privilege('pg_catalog.pg_hba_file_rules()', 'EXECUTE') AS reads_hba
FROM pg_roles AS r
WHERE r.rolname = current_user
