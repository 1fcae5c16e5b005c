-- Lease the next messages to an owner who is registered, unless the queue is paused. The lock on
-- the owner's row keeps it from being struck off before this is committed. As an array, so that
-- the planner looks its few elements up however many rows it expects.
WITH owner AS (
    SELECT id FROM {schema}.workers WHERE id = %(owner)s FOR KEY SHARE
), picked AS MATERIALIZED (
    SELECT did FROM {schema}.messages
    WHERE state = 0 AND queue = %(queue)s
        AND EXISTS (SELECT 1 FROM owner)
        AND NOT EXISTS (SELECT 1 FROM {schema}.paused WHERE queue = %(queue)s)
    ORDER BY prio, position, seq
    LIMIT %(count)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {schema}.messages SET state = 2, owner = %(owner)s, attempts = attempts + 1
WHERE did = ANY (ARRAY (SELECT did FROM picked))
RETURNING prio, position, seq, did, attempts, payload
