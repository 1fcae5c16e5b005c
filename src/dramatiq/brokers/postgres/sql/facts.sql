-- What `diagnosis` judges.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::int AS number,
    pg_is_in_recovery() AS is_standby,
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('autovacuum') AS autovacuum,
    current_setting('max_connections')::int AS max_connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    coalesce((
        SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = '{schema}.messages'::regclass
    ), 0) AS dead_rows,
    coalesce((
        SELECT extract(epoch FROM max(clock_timestamp() - xact_start))
        FROM pg_stat_activity WHERE backend_type = 'client backend'
    ), 0)::float8 AS oldest_transaction_s,
    {schema}.now_ms() AS now
