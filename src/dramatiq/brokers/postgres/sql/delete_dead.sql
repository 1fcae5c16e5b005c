-- Drop dead letters, unless they have moved meanwhile.
DELETE FROM {schema}.dead AS dead
USING unnest(%(dids)b::bytea[], %(died)b::bigint[]) AS given (did, died_at)
WHERE dead.did = given.did AND dead.died_at = given.died_at
