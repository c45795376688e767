-- What depends on a role, by database; no database means shared objects.  $1  its OID
--
-- A database that is gone has taken its objects along. Memberships are no objects: they go with
-- the role, or were taken away before. Default privileges and user mappings are no objects of the
-- role's own: they are about it. Of shared objects the first 25 are named.
SELECT d.datname::text AS database, coalesce(d.datallowconn, true) AS connectable,
       count(*) FILTER (WHERE s.deptype = 'o'
           AND s.classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)) AS owned,
       count(*) FILTER (WHERE s.deptype <> 'o') AS privileges,
       coalesce((array_agg(i.type ORDER BY i.type, i.identity)
           FILTER (WHERE i.type IS NOT NULL))[1:25], '{}')::text[] AS types,
       coalesce((array_agg(i.identity ORDER BY i.type, i.identity)
           FILTER (WHERE i.type IS NOT NULL))[1:25], '{}')::text[] AS identities,
       coalesce((array_agg(NULL::text) FILTER (WHERE i.type IS NOT NULL))[1:25], '{}')::text[] AS places
FROM (
    SELECT dbid, classid, objid, objsubid, deptype FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1
    OFFSET 0
) AS s
LEFT JOIN pg_database AS d ON d.oid = s.dbid
LEFT JOIN LATERAL (
    -- Only a shared object is known here: the call fails for one of another database.
    SELECT o.type, o.identity
    FROM pg_identify_object(CASE WHEN s.dbid = 0 AND s.deptype = 'o' THEN s.classid END, s.objid, 0) AS o
) AS i ON true
WHERE (s.dbid = 0 OR d.oid IS NOT NULL)
  AND NOT (s.dbid = 0 AND s.classid = 'pg_auth_members'::regclass)
GROUP BY d.datname, d.datallowconn
ORDER BY d.datname
