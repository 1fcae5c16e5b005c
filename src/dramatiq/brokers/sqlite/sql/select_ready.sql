-- All in one row: each further row would cost the caller a turn of the interpreter's lock.
SELECT
    group_concat(seq),
    group_concat(
        CASE typeof(payload) WHEN 'blob' THEN 'x' || hex(payload) ELSE payload END,
        char(30)
    )
FROM (
    SELECT seq, payload FROM messages
    WHERE state = 0 AND queue = :queue
    ORDER BY prio, position, seq LIMIT :count
)
