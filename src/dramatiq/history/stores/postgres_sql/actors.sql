-- Jumps from each name to the next one, so that it takes as many steps as there are actors.
WITH RECURSIVE names (name) AS (
    SELECT min(actor_name) FROM {schema}.history
    UNION ALL
    SELECT (SELECT min(actor_name) FROM {schema}.history WHERE actor_name > name)
    FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL
