-- Each with whether it is known by a lock, whether somebody holds that, and its silence.
SELECT id, host, pid, started, started_at, has_lock,
    EXISTS (
        SELECT 1 FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = '{schema}.workers'::regclass::oid
            AND objid = (id %% 2147483648)::int::oid
    ),
    {schema}.now_ms() - beat_at, beat_at,
    (SELECT count(*) FROM {schema}.messages WHERE state = 2 AND owner = workers.id)
FROM {schema}.workers ORDER BY id
