-- Which account its holder had, where the directory shows that: another one may come to the same
-- name. Leases of before have nothing here.
ALTER TABLE lease ADD COLUMN account_id text;
