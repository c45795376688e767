-- Subscriptions of a role, and the database that each is of; readable since 14.  $1  its OID
SELECT quote_ident(s.subname) AS identity, d.datname::text AS database
FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
WHERE s.subowner = $1
