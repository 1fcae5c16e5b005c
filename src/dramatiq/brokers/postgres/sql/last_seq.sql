-- Now, and the number of the last message there is.
SELECT {schema}.now_ms(), coalesce(max(seq), 0) FROM {schema}.messages WHERE queue = %(queue)s
