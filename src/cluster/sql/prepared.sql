-- Transactions that a role has prepared and nobody finished.  $1  its name
SELECT gid, database::text AS database FROM pg_prepared_xacts WHERE owner = $1::text::name ORDER BY gid
