-- Who holds what a session of the broker waits for: a row for each.
--   $1  its server process; or 0 for those that close or drop a role
--   $2  that role's name, quoted   $3  the names of the groups that it was lent
--
-- Process 0 stands for prepared transactions: they have no process, and each a lock on itself. One
-- of another database holds nothing here, although its objects may have the same OIDs.
-- Since when a session has its transaction is shown to who may read it (pg_read_all_stats).
-- `of_group` are those of a group that it was lent, or that such a one is in: before 16 the role
-- can become it. One that may log in or has attributes may have other reasons for what it does;
-- but who may not make roles and has changed the row of this one did so in its name.
WITH RECURSIVE lent (oid) AS (
    SELECT r.oid FROM pg_roles AS r WHERE r.rolname = ANY ($3::text[]::name[])
  UNION
    SELECT m.roleid FROM lent CROSS JOIN LATERAL (
        SELECT roleid FROM pg_auth_members WHERE member = lent.oid OFFSET 0
    ) AS m
), conflicts (mode, taken) AS (
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
), holder AS (
    SELECT DISTINCT o.pid AS waiting, h.pid
    FROM pg_stat_activity AS o CROSS JOIN LATERAL unnest(pg_blocking_pids(o.pid)) AS h (pid)
    WHERE o.usename = current_user AND o.wait_event_type = 'Lock'
      AND CASE $1::int WHEN 0 THEN strpos(o.query, $2::text) > 0 ELSE o.pid = $1::int END
), prepared AS (
    SELECT DISTINCT h.waiting, x.gid, x.transaction, x.ownerid, x.dbid,
           l.locktype = 'transactionid' AND EXISTS (
               SELECT FROM locks AS a
               WHERE a.virtualtransaction = l.virtualtransaction AND a.pid IS NULL
                 AND a.locktype = 'relation' AND a.relation = 'pg_authid'::regclass
                 AND a.mode = 'RowExclusiveLock') AS changed_row
    FROM holder AS h JOIN locks AS o ON o.pid = h.waiting AND NOT o.granted
    JOIN conflicts AS c ON c.mode = o.mode
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
    WHERE h.pid = 0
)
SELECT DISTINCT h.pid, coalesce(r.rolname, s.usename)::text AS owner, r.oid AS owner_oid,
       left(d.description, 300) AS owner_comment,
       p.gid, p.transaction::text AS transaction, b.datname::text AS database,
       s.datname::text AS session_database, s.xact_start, s.query_start,
       coalesce((SELECT o.relation FROM locks AS o WHERE o.pid = h.waiting AND NOT o.granted LIMIT 1),
                0) AS relation,
       current_setting('server_version_num')::int < 160000 AS may_become,
       r.rolname <> current_user AND NOT (r.rolsuper OR r.rolcreaterole)
           AND CASE WHEN r.oid IN (SELECT lent.oid FROM lent)
               THEN p.changed_row OR NOT (r.rolcanlogin OR r.rolreplication OR r.rolbypassrls)
               ELSE p.changed_row AND NOT r.rolcanlogin END AS of_group,
       EXISTS (SELECT FROM locks AS o WHERE o.pid = h.waiting AND NOT o.granted
               AND o.locktype IN ('transactionid', 'tuple')) AS for_row,
       EXISTS (SELECT FROM pg_auth_members AS m
               WHERE m.roleid = r.oid AND m.member =
                   (SELECT b.oid FROM pg_roles AS b WHERE b.rolname = current_user)) AS broker_is_member
FROM holder AS h
LEFT JOIN pg_stat_activity AS s ON s.pid = h.pid
LEFT JOIN prepared AS p ON h.pid = 0 AND p.waiting = h.waiting
LEFT JOIN pg_database AS b ON b.oid = p.dbid
LEFT JOIN pg_roles AS r ON r.oid = coalesce(p.ownerid, s.usesysid)
LEFT JOIN pg_shdescription AS d ON d.objoid = r.oid AND d.classoid = 'pg_authid'::regclass
ORDER BY h.pid, p.gid
