-- What the server is, and from where it sees the broker come.
SELECT current_setting('server_version_num')::int AS version,
       pg_is_in_recovery() AS standby,
       clock_timestamp() AS server_time,
       host(inet_client_addr()) AS broker_address
