-- All dead letters, in the order of their ids.
SELECT did, seq, queue, 3::smallint, prio, died_at, NULL, crashes, why, payload
FROM {schema}.dead WHERE did > %(did)s ORDER BY did LIMIT %(count)s
