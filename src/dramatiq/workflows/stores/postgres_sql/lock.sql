SELECT * FROM {schema}.lock_flows(
    %(locked)b::text[], %(flows)b::text[], %(names)b::text[]
)
