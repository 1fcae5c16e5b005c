-- Drop some fields of workflows that have expired.
DELETE FROM {schema}.flow_fields
WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM {schema}.flow_fields
    WHERE flow = ANY (ARRAY (
        SELECT flow FROM {schema}.flows WHERE expires_at <= {schema}.now_ms()
        ORDER BY expires_at LIMIT %(count)s FOR UPDATE SKIP LOCKED
    ))
    LIMIT %(count)s
))
