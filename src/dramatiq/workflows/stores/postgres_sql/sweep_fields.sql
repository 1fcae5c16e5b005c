-- Drop some fields of workflows that have expired.
WITH part AS (
    SELECT flow, name FROM {schema}.flow_fields
    WHERE flow = ANY (ARRAY (
        SELECT flow FROM {schema}.flows WHERE expires_at <= {schema}.now_ms()
        ORDER BY expires_at LIMIT %(count)s FOR UPDATE SKIP LOCKED
    ))
    LIMIT %(count)s
)
DELETE FROM {schema}.flow_fields AS field USING part
WHERE field.flow = part.flow AND field.name = part.name
