INSERT INTO {schema}.limits (key, value, expires_at)
VALUES (%(key)s, %(value)s, {schema}.now_ms() + %(ttl)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
