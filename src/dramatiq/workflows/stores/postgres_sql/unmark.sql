-- A mark, and those that have expired.
DELETE FROM {schema}.flows_cancelled
WHERE mark = %(mark)s OR expires_at <= {schema}.now_ms()
