SELECT mark FROM {schema}.flows_cancelled WHERE expires_at > {schema}.now_ms()
