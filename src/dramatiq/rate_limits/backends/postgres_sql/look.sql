SELECT 1 FROM {schema}.limit_events WHERE key = %(key)s AND expires_at > {schema}.now_ms()
