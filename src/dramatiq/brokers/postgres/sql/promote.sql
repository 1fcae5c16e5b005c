-- Make what is due ready; position stays its eta, so that it takes its place among the others. Only
-- what has waited because a process died while it ran, most likely without being to blame, waits
-- no longer: that comes first, the first time.
UPDATE {schema}.messages
SET state = 0, position = CASE crashes WHEN 1 THEN 0 ELSE position END
WHERE did = ANY (ARRAY (
    SELECT did FROM {schema}.messages
    WHERE state = 1 AND queue = %(queue)s AND position <= {schema}.now_ms()
    ORDER BY position, seq LIMIT %(count)s
    FOR NO KEY UPDATE SKIP LOCKED
))
