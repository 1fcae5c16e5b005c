DELETE FROM {schema}.history_failures
