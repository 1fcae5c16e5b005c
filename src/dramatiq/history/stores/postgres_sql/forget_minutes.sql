DELETE FROM {schema}.history_minutes
WHERE (minute, queue_name, actor_name, outcome) IN (
    SELECT minute, queue_name, actor_name, outcome FROM {schema}.history_minutes
    WHERE minute < %(before)s LIMIT %(count)s FOR UPDATE SKIP LOCKED
)
