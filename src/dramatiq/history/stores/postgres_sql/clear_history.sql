DELETE FROM {schema}.history
