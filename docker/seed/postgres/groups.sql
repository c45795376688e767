-- Group roles: what a lease role becomes a member of. They cannot log in; each is granted its
-- rights on objects in the file of its database.

SELECT format('CREATE ROLE %I NOLOGIN', name)
FROM unnest(ARRAY['orders_read', 'orders_write', 'reports_read']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
