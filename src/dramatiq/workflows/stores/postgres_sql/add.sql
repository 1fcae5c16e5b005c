INSERT INTO {schema}.flows (flow, created_at, expires_at)
VALUES (%(flow)s, %(created_at)s, {schema}.now_ms() + %(ttl)s)
ON CONFLICT (flow) DO UPDATE SET expires_at = excluded.expires_at
