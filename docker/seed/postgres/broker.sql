-- The broker's own login and what it needs; a cluster of one's own is prepared in the same way.
--
--   pgbridge        logs in, makes lease roles and drops them; no superuser, reads no table
--   pgbridge_admin  NOLOGIN; holds ADMIN OPTION on the group roles and on every lease role, so
--                   that a later login of the broker can take over from this one
--   pgbridge_attic  NOLOGIN; inherits what a lease role leaves behind, member of nothing

SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(ARRAY['pgbridge_admin', 'pgbridge_attic']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
SELECT 'CREATE ROLE pgbridge'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgbridge')
\gexec

-- The server log keeps statements that fail or are asked for; this one holds a password.
\set broker_password `cat :'broker_password_file'`
BEGIN;
SET LOCAL log_statement = 'none';
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL password_encryption = 'scram-sha-256';
ALTER ROLE pgbridge LOGIN INHERIT CREATEROLE
    NOSUPERUSER NOCREATEDB NOREPLICATION NOBYPASSRLS
    PASSWORD :'broker_password';
COMMIT;
\unset broker_password

-- Sessions of a lease are ended even when its role is dropped already.
GRANT pg_signal_backend TO pgbridge;

SELECT current_setting('server_version_num')::int >= 160000 AS grants_have_options
\gset
\if :grants_have_options
    -- 16 and newer: CREATEROLE alone may grant no role that it did not make. ADMIN without INHERIT
    -- and SET lets the broker hand a group on and use none of its rights.
    GRANT orders_read, orders_write, reports_read TO pgbridge_admin
        WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
    GRANT pgbridge_admin TO pgbridge WITH INHERIT TRUE, SET TRUE;
    GRANT pgbridge_attic TO pgbridge WITH INHERIT TRUE, SET TRUE;
\else
    -- 15 and older: CREATEROLE may grant every role that is no superuser. It may also become any of
    -- them, so guard this login there as you would a superuser's.
    GRANT pgbridge_admin, pgbridge_attic TO pgbridge;
\endif
