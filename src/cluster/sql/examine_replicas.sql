-- Who copies the server. Without pg_monitor a row has no state.
SELECT count(*) AS attached,
       count(*) FILTER (WHERE r.sync_state IN ('sync', 'quorum')) AS synchronous,
       count(*) FILTER (WHERE r.sync_state IS NULL) AS hidden
FROM pg_stat_replication AS r
