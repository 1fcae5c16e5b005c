-- Drop some workflows that have expired and have no fields any more.
DELETE FROM {schema}.flows
WHERE flow = ANY (ARRAY (
    SELECT flow FROM {schema}.flows
    WHERE expires_at <= {schema}.now_ms() AND NOT EXISTS (
        SELECT 1 FROM {schema}.flow_fields WHERE flow_fields.flow = flows.flow
    )
    ORDER BY expires_at LIMIT %(count)s FOR UPDATE SKIP LOCKED
))
