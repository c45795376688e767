-- What the broker is to a role, and which server this is.  $1  the role's OID
--
-- Its membership is read from the row and not asked of pg_has_role: that would follow every
-- membership of the broker. Rows have no options before 16, where a membership is all there is.
SELECT current_setting('server_version_num')::int AS version,
       pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS may_signal,
       EXISTS (
           SELECT FROM pg_auth_members AS m
           JOIN pg_roles AS b ON b.oid = m.member
           WHERE m.roleid = r.oid AND b.rolname = current_user
             AND coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
             AND coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
       ) AS is_member
FROM pg_roles AS r
WHERE r.oid = $1
