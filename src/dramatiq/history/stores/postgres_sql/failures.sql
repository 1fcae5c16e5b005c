SELECT actor_name, exception, count, first_seen, last_seen, sample FROM {schema}.history_failures
ORDER BY last_seen DESC LIMIT %(count)s
