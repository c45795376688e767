-- Who holds what a session of the broker waits for while it closes a role.  $1  the role's name
--
-- Process 0 stands for a prepared transaction.
SELECT DISTINCT h.pid, coalesce(s.usename::text, 'nobody') AS owner
FROM pg_stat_activity AS w
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS h (pid)
LEFT JOIN pg_stat_activity AS s ON s.pid = h.pid
WHERE w.usename = current_user AND w.wait_event_type = 'Lock' AND strpos(w.query, $1::text) > 0
ORDER BY h.pid
