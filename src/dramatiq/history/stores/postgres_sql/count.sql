INSERT INTO {schema}.history_minutes AS known (minute, queue_name, actor_name, outcome, count)
SELECT * FROM unnest(
    %(minutes)b::bigint[], %(queues)b::text[], %(actors)b::text[], %(outcomes)b::text[],
    %(counts)b::bigint[]
)
ON CONFLICT (minute, queue_name, actor_name, outcome)
DO UPDATE SET count = known.count + excluded.count
