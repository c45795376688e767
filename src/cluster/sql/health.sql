-- How the server is, and what the broker's login may do.
SELECT current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS standby,
       clock_timestamp() AS server_time,
       r.rolsuper AS superuser,
       r.rolcreaterole OR r.rolsuper AS can_create_roles,
       pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS can_signal
FROM pg_roles AS r
WHERE r.rolname = current_user
