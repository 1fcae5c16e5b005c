-- Hold the lock by which others tell that this session lives.
SELECT pg_try_advisory_lock('{schema}.workers'::regclass::oid::int, (%(owner)s %% 2147483648)::int)
