-- Of the oldest attempts, drop those that are too many or too old; others may be doing the same.
DELETE FROM {schema}.history
WHERE position = ANY (ARRAY (
    SELECT position
    FROM (SELECT position, ended_at FROM {schema}.history ORDER BY position LIMIT %(most)s)
        AS oldest
    WHERE ended_at < %(before)s
        OR position <= (SELECT max(position) FROM {schema}.history) - %(max_records)s
))
