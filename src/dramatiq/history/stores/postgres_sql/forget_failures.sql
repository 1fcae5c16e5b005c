DELETE FROM {schema}.history_failures
WHERE (actor_name, exception) IN (
    SELECT actor_name, exception FROM {schema}.history_failures
    WHERE last_seen < %(before)s LIMIT %(count)s FOR UPDATE SKIP LOCKED
)
