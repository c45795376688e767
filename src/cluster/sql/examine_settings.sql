-- Parameters of the server, as far as the login may see them; one of a library that is not loaded
-- has no row.  $1  their names
SELECT name, left(setting, 2000) AS setting FROM pg_settings WHERE name = ANY ($1::text[]) AND setting IS NOT NULL ORDER BY name
