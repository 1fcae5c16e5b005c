INSERT INTO {schema}.history
    (ended_at, message_id, actor_name, queue_name, outcome, parent_id, group_id, record)
SELECT ended_at, message_id, actor_name, queue_name, outcome, parent_id, group_id, record
FROM unnest(
    %(ended_at)b::bigint[], %(message_id)b::text[], %(actor_name)b::text[],
    %(queue_name)b::text[], %(outcome)b::text[], %(parent_id)b::text[], %(group_id)b::text[],
    %(record)b::text[]
) WITH ORDINALITY AS given
    (ended_at, message_id, actor_name, queue_name, outcome, parent_id, group_id, record, number)
ORDER BY number
