SELECT value FROM {schema}.limits WHERE key = %(key)s AND expires_at > {schema}.now_ms()
