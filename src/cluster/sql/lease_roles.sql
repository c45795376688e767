-- Roles that carry a mark, or whose names begin like a lease role's: a page of them.
--   $1  what marks begin with   $2  what names begin with
--   $3  the last OID of the page before, or 0   $4  how many at most
--
-- Whoever may make roles can make any number that look so, with comments of any length: a mark is
-- shorter than 300 letters, and one that is cut is none.
-- How long the password is good for is counted by the server's clock; nothing means for ever.
SELECT r.oid, r.rolname::text AS name, coalesce(left(d.description, 300), '') AS comment,
       CASE WHEN r.rolvaliduntil < 'infinity'
            THEN extract(epoch FROM greatest(r.rolvaliduntil, now()) - now())::float8
       END AS valid_for
FROM pg_roles AS r
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE (starts_with(left(d.description, 300), $1) OR starts_with(r.rolname::text, $2)) AND r.oid > $3
ORDER BY r.oid
LIMIT $4
