-- Every role that carries a mark, or whose name begins like a lease role's, and whether it can log in.
--   $1  what marks begin with   $2  what names begin with
SELECT r.rolname::text AS name, coalesce(left(d.description, 300), '') AS comment, r.rolcanlogin AS can_login
FROM pg_roles AS r
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
WHERE starts_with(left(d.description, 300), $1) OR starts_with(r.rolname::text, $2)
ORDER BY r.rolname
LIMIT 50000
