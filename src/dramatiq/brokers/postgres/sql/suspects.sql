-- Workers of one machine, and those that have not been heard of for a while, each with whether it
-- is known by its lock, for how many milliseconds it was silent, and how long the server has run.
SELECT id, host, pid, started, has_lock, {schema}.now_ms() - beat_at,
    {schema}.now_ms() - (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint
FROM {schema}.workers
WHERE host = %(host)s OR beat_at < {schema}.now_ms() - %(silence)s
