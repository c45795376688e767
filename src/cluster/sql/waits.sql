-- Whom a server process waits for, and for which relation of its own database.  $1  the process
--
-- Process 0 stands for a prepared transaction: it has no process, and a lock on itself.
WITH awaited AS (
    SELECT * FROM pg_locks WHERE pid = $1 AND NOT granted LIMIT 1
)
SELECT h.pid, s.usename::text AS owner, coalesce((SELECT relation FROM awaited), 0) AS relation,
       CASE WHEN h.pid = 0 THEN (
           SELECT min(x.gid) FROM pg_locks AS l
           JOIN pg_locks AS t ON t.locktype = 'transactionid' AND t.pid IS NULL
            AND t.virtualtransaction = l.virtualtransaction
           JOIN pg_prepared_xacts AS x ON x.transaction = t.transactionid
           JOIN awaited AS o ON o.locktype = l.locktype
            AND o.transactionid IS NOT DISTINCT FROM l.transactionid
            AND o.relation IS NOT DISTINCT FROM l.relation
            AND o.classid IS NOT DISTINCT FROM l.classid AND o.objid IS NOT DISTINCT FROM l.objid
           WHERE l.pid IS NULL AND l.granted
       ) END AS gid
FROM unnest(pg_blocking_pids($1)) AS h (pid)
LEFT JOIN pg_stat_activity AS s ON s.pid = h.pid
GROUP BY h.pid, s.usename
ORDER BY h.pid
