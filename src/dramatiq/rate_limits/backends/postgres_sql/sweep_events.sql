-- Drop some of what has expired, and nothing that somebody is about to write.
DELETE FROM {schema}.limit_events
WHERE key = ANY (ARRAY (
    SELECT key FROM {schema}.limit_events WHERE expires_at <= {schema}.now_ms()
    LIMIT %(count)s FOR UPDATE SKIP LOCKED
))
