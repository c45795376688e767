-- The lines of pg_hba.conf as the file has them now, in the order in which the server tries them. Files that it includes are named
-- since 16.
SELECT to_jsonb(h) ->> 'file_name' AS file,
       h.line_number AS line,
       coalesce(h.type, '') AS type,
       coalesce(h.database, '{}') AS databases,
       coalesce(h.user_name, '{}') AS users,
       h.address,
       h.netmask,
       coalesce(h.auth_method, '') AS method,
       coalesce(h.options, '{}') AS options,
       h.error
FROM pg_hba_file_rules AS h
ORDER BY (to_jsonb(h) ->> 'rule_number')::int NULLS FIRST, h.line_number
