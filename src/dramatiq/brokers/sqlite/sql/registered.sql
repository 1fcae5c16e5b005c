-- No row if the owner is struck off, else whether the queue is paused.
SELECT EXISTS (SELECT 1 FROM paused WHERE queue = :queue) FROM workers WHERE id = :owner
