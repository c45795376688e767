-- The lines of pg_hba.conf as the file has them now, in the order in which the server tries them.
-- Files that it includes are named since 16.  $1  how many at most
--
-- A line can hold any number of names, such as those of another file, and a name be of any length.
SELECT left(to_jsonb(h) ->> 'file_name', 1000) AS file,
       h.line_number AS line,
       coalesce(h.type, '') AS type,
       ARRAY(SELECT left(d.name, 300) FROM unnest(h.database) AS d (name) LIMIT 1000) AS databases,
       ARRAY(SELECT left(u.name, 300) FROM unnest(h.user_name) AS u (name) LIMIT 1000) AS users,
       greatest(cardinality(h.database), cardinality(h.user_name), 0) > 1000
           OR EXISTS (SELECT FROM unnest(h.database || h.user_name) AS n (name)
                      WHERE length(n.name) > 300) AS is_cut,
       left(h.address, 300) AS address,
       left(h.netmask, 300) AS netmask,
       coalesce(h.auth_method, '') AS method,
       ARRAY(SELECT left(o.option, 300) FROM unnest(h.options) AS o (option) LIMIT 100) AS options,
       left(h.error, 300) AS error
FROM pg_hba_file_rules AS h
ORDER BY (to_jsonb(h) ->> 'rule_number')::int NULLS FIRST, h.line_number
LIMIT $1
