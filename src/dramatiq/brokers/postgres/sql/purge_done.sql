DELETE FROM {schema}.done WHERE at <= {schema}.now_ms() - %(ttl)s
