INSERT INTO {schema}.flows_cancelled (mark, expires_at)
VALUES (%(mark)s, {schema}.now_ms() + %(ttl)s)
ON CONFLICT (mark) DO UPDATE SET expires_at = excluded.expires_at
