SELECT id, unnest(recorders) FROM {schema}.workers ORDER BY id
