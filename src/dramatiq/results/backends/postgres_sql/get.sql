SELECT value FROM {schema}.results WHERE key = %(key)s AND expires_at > {schema}.now_ms()
