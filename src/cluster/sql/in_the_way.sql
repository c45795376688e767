-- Who holds what a session of the broker waits for while it closes a role.  $1  the role's name
--
-- Process 0 stands for a prepared transaction: it has no process, and a lock on itself.
SELECT DISTINCT h.pid, s.usename::text AS owner,
       CASE WHEN h.pid = 0 THEN (
           SELECT min(x.gid) FROM pg_locks AS l
           JOIN pg_locks AS t ON t.locktype = 'transactionid' AND t.pid IS NULL
            AND t.virtualtransaction = l.virtualtransaction
           JOIN pg_prepared_xacts AS x ON x.transaction = t.transactionid
           JOIN pg_locks AS o ON o.pid = w.pid AND NOT o.granted AND o.locktype = l.locktype
            AND o.transactionid IS NOT DISTINCT FROM l.transactionid
            AND o.relation IS NOT DISTINCT FROM l.relation
            AND o.classid IS NOT DISTINCT FROM l.classid AND o.objid IS NOT DISTINCT FROM l.objid
           WHERE l.pid IS NULL AND l.granted
       ) END AS gid
FROM pg_stat_activity AS w
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS h (pid)
LEFT JOIN pg_stat_activity AS s ON s.pid = h.pid
WHERE w.usename = current_user AND w.wait_event_type = 'Lock' AND strpos(w.query, $1::text) > 0
ORDER BY h.pid
