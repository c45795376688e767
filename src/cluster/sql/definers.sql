-- Routines of a role that run with their owner's rights, named for use in a statement.  $1  its OID
SELECT oid::regprocedure::text AS routine FROM pg_proc WHERE proowner = $1 AND prosecdef ORDER BY oid
