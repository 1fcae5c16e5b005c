SELECT count(*) FROM {schema}.dead
WHERE queue = %(queue)s AND died_at BETWEEN %(since)s AND %(until)s
