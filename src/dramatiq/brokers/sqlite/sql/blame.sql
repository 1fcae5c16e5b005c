-- Take back what a dead owner was running: later, or never again if it has brought down too many.
UPDATE messages
SET crashes = crashes + 1, owner = NULL,
    state = CASE WHEN crashes + 1 < :max_crashes THEN 1 ELSE 3 END,
    position = :now + CASE
        WHEN crashes + 1 >= :max_crashes THEN 0
        WHEN crashes = 0 THEN :first_delay
        ELSE :next_delay
    END,
    why = CASE WHEN crashes + 1 < :max_crashes THEN why ELSE :why END
WHERE state = 2 AND owner = :owner AND seq = :seq
RETURNING seq, queue, crashes
