SELECT minute, queue_name, actor_name, outcome, count FROM {schema}.history_minutes
WHERE minute >= %(minute)s
