-- Whether the owner is registered, and in how many milliseconds there will be something to take: 0
-- or less if something is ready, NULL if there is nothing, or nothing may be taken.
SELECT
    EXISTS (SELECT 1 FROM {schema}.workers WHERE id = %(owner)s),
    CASE
        WHEN EXISTS (SELECT 1 FROM {schema}.paused WHERE queue = %(queue)s) THEN NULL
        WHEN EXISTS (SELECT 1 FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s) THEN 0
        ELSE (
            SELECT position FROM {schema}.messages WHERE state = 1 AND queue = %(queue)s
            ORDER BY position, seq LIMIT 1
        ) - {schema}.now_ms()
    END
