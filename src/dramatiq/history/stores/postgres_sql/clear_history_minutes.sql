DELETE FROM {schema}.history_minutes
