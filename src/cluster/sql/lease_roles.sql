-- Every role that carries a mark, or whose name begins like a lease role's.
--   $1  what marks begin with   $2  what names begin with
-- How long the password is good for is counted by the server's clock; nothing means for ever.
SELECT r.oid, r.rolname::text AS name, coalesce(d.description, '') AS comment,
       CASE WHEN r.rolvaliduntil < 'infinity'
            THEN extract(epoch FROM greatest(r.rolvaliduntil, now()) - now())::float8
       END AS valid_for
FROM pg_roles AS r
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE starts_with(d.description, $1) OR starts_with(r.rolname::text, $2)
ORDER BY r.oid
