DELETE FROM {schema}.dead
WHERE did = ANY (ARRAY (
    SELECT did FROM {schema}.dead
    WHERE queue = %(queue)s AND died_at <= {schema}.now_ms() - %(ttl)s
    ORDER BY died_at LIMIT %(count)s
))
