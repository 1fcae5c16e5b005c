-- Whether nobody holds a worker's lock; until the end of the transaction nobody can.
SELECT pg_try_advisory_xact_lock(
    '{schema}.workers'::regclass::oid::int, (%(owner)s %% 2147483648)::int
)
