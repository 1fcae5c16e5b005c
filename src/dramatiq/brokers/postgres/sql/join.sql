INSERT INTO {schema}.workers (host, pid, started, started_at, beat_at, recorders)
VALUES (
    %(host)s, %(pid)s, %(started)s, {schema}.now_ms(), {schema}.now_ms(), %(recorders)b::text[]
)
RETURNING id
