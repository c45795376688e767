-- What the broker is to a role, and which server this is.  $1  the role's OID
--
-- Memberships are read from their rows and only then asked of pg_has_role: that would follow every
-- membership of the broker, of which it has one for each live lease role since 16. Rows have no
-- options before 16, where a membership is all there is.
WITH own (roleid) AS (
    SELECT m.roleid
    FROM pg_auth_members AS m
    WHERE m.roleid IN ($1, 'pg_signal_backend'::regrole)
      AND m.member = (SELECT b.oid FROM pg_roles AS b WHERE b.rolname = current_user)
      AND coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
      AND coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
)
SELECT current_setting('server_version_num')::int AS version,
       current_user::text AS broker,
       CASE WHEN EXISTS (SELECT FROM own WHERE roleid = 'pg_signal_backend'::regrole) THEN true
            ELSE pg_has_role(current_user, 'pg_signal_backend', 'USAGE') END AS may_signal,
       EXISTS (SELECT FROM own WHERE roleid = $1) AS is_member
FROM pg_roles AS r
WHERE r.oid = $1
