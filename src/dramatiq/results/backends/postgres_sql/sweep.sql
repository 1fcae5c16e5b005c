-- Drop some of what has expired, and nothing that somebody is about to write.
DELETE FROM {schema}.results
WHERE key = ANY (ARRAY (
    SELECT key FROM {schema}.results WHERE expires_at <= {schema}.now_ms()
    LIMIT %(count)s FOR UPDATE SKIP LOCKED
))
