INSERT INTO {schema}.history_failures AS known
    (actor_name, exception, count, first_seen, last_seen, sample)
SELECT * FROM unnest(
    %(actors)b::text[], %(exceptions)b::text[], %(counts)b::bigint[], %(firsts)b::bigint[],
    %(lasts)b::bigint[], %(samples)b::text[]
)
ON CONFLICT (actor_name, exception) DO UPDATE SET
    count = known.count + excluded.count, last_seen = excluded.last_seen, sample = excluded.sample
