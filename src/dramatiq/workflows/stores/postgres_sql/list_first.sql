-- The newest first.
SELECT flow, created_at FROM {schema}.flows
WHERE expires_at > {schema}.now_ms()
ORDER BY created_at DESC, flow DESC LIMIT %(count)s
