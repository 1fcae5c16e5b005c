-- Nobody else changes these counters before this is committed. In one order, so that nobody waits
-- for somebody who waits for it.
SELECT pg_advisory_xact_lock(hashtextextended(key, '{schema}.limits'::regclass::oid::bigint))
FROM (SELECT key FROM unnest(%(keys)b::text[]) AS key ORDER BY key) AS sorted
