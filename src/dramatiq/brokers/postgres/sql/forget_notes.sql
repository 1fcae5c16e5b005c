DELETE FROM {schema}.audit WHERE id <= (SELECT max(id) FROM {schema}.audit) - %(size)s
