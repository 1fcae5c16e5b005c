INSERT INTO {schema}.limit_events (key, expires_at)
VALUES (%(key)s, {schema}.now_ms() + %(ttl)s)
ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at
