-- Transactions that a role has prepared and nobody finished, also when the role is gone.  $1  its OID
--
-- There are at most `max_prepared_transactions`, which whoever runs the server has set.
SELECT p.gid, d.datname::text AS database
FROM pg_prepared_xact() AS p JOIN pg_database AS d ON d.oid = p.dbid
WHERE p.ownerid = $1
ORDER BY p.gid
