INSERT INTO {schema}.paused (queue) VALUES (%(queue)s) ON CONFLICT DO NOTHING
