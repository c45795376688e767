-- What depends on a role, by database; no database means shared objects.  $1  its OID
--
-- A database that is gone has taken its objects along. Memberships are no objects: they go with
-- the role, or were taken away before.
SELECT d.datname::text AS database, coalesce(d.datallowconn, true) AS connectable,
       count(*) FILTER (WHERE s.deptype = 'o') AS owned,
       count(*) FILTER (WHERE s.deptype <> 'o') AS privileges,
       coalesce(array_agg(pg_describe_object(s.classid, s.objid, s.objsubid) ORDER BY s.objid)
           FILTER (WHERE s.deptype = 'o' AND s.dbid = 0), '{}')::text[] AS owned_shared
FROM (
    SELECT dbid, classid, objid, objsubid, deptype FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1
    OFFSET 0
) AS s
LEFT JOIN pg_database AS d ON d.oid = s.dbid
WHERE (s.dbid = 0 OR d.oid IS NOT NULL)
  AND NOT (s.dbid = 0 AND s.classid = 'pg_auth_members'::regclass)
GROUP BY d.datname, d.datallowconn
ORDER BY d.datname
