-- A key that is named twice counts twice.
SELECT coalesce(sum(value), 0)::bigint
FROM unnest(%(keys)b::text[]) AS wanted (key) JOIN {schema}.limits USING (key)
WHERE expires_at > {schema}.now_ms()
