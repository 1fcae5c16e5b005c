-- Write fields, and have workflows live on. How long they live is not written for every bit of it,
-- as each time leaves a dead row.
WITH alive AS (
    INSERT INTO {schema}.flows AS flow (flow, created_at, expires_at)
    SELECT id, {schema}.now_ms(), {schema}.now_ms() + %(ttl)s
    FROM unnest(%(alive)b::text[]) AS id
    ON CONFLICT (flow) DO UPDATE SET expires_at = excluded.expires_at
    WHERE flow.expires_at < excluded.expires_at - %(slack)s
        OR flow.expires_at > excluded.expires_at
)
INSERT INTO {schema}.flow_fields (flow, name, value)
SELECT * FROM unnest(%(flows)b::text[], %(names)b::text[], %(values)b::bytea[])
ON CONFLICT (flow, name) DO UPDATE SET value = excluded.value
