-- Whom a server process waits for, and for which relation of its own database.  $1  the process
--
-- Process 0 stands for prepared transactions: they have no process, and each a lock on itself.
-- One of another database holds nothing here, although its objects may have the same OIDs.
WITH conflicts (mode, taken) AS (
    -- Which mode waits for which (manual, table 13.2).
    VALUES ('AccessShareLock', '{AccessExclusiveLock}'::text[]),
           ('RowShareLock', '{ExclusiveLock,AccessExclusiveLock}'),
           ('RowExclusiveLock', '{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('ShareUpdateExclusiveLock', '{ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('ShareLock', '{RowExclusiveLock,ShareUpdateExclusiveLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('ShareRowExclusiveLock', '{RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('ExclusiveLock', '{RowShareLock,RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'),
           ('AccessExclusiveLock', '{AccessShareLock,RowShareLock,RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}')
), locks AS MATERIALIZED (
    SELECT * FROM pg_locks
), awaited AS (
    SELECT * FROM locks WHERE pid = $1 AND NOT granted LIMIT 1
), prepared AS (
    SELECT DISTINCT x.gid, d.datname::text AS database
    FROM awaited AS o JOIN conflicts AS c ON c.mode = o.mode
    JOIN locks AS l ON l.pid IS NULL AND l.granted AND l.mode = ANY (c.taken)
        AND l.locktype = o.locktype
        AND l.database IS NOT DISTINCT FROM o.database AND l.relation IS NOT DISTINCT FROM o.relation
        AND l.page IS NOT DISTINCT FROM o.page AND l.tuple IS NOT DISTINCT FROM o.tuple
        AND l.transactionid IS NOT DISTINCT FROM o.transactionid
        AND l.classid IS NOT DISTINCT FROM o.classid AND l.objid IS NOT DISTINCT FROM o.objid
        AND l.objsubid IS NOT DISTINCT FROM o.objsubid
    JOIN locks AS t ON t.locktype = 'transactionid' AND t.pid IS NULL
        AND t.virtualtransaction = l.virtualtransaction
    JOIN pg_prepared_xact() AS x ON x.transaction = t.transactionid
    LEFT JOIN pg_database AS d ON d.oid = x.dbid
)
SELECT DISTINCT h.pid, s.usename::text AS owner,
       coalesce((SELECT relation FROM awaited), 0) AS relation, p.gid, p.database
FROM unnest(pg_blocking_pids($1)) AS h (pid)
LEFT JOIN pg_stat_activity AS s ON s.pid = h.pid
LEFT JOIN prepared AS p ON h.pid = 0
ORDER BY h.pid, p.gid
