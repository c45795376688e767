-- What is left of a role.  $1  its OID
SELECT EXISTS (SELECT FROM pg_roles WHERE oid = $1) AS role,
       EXISTS (SELECT FROM pg_shdepend
               WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1) AS dependencies,
       EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = $1) AS sessions
