SELECT id, slot, pid, started_at,
    (SELECT count(*) FROM messages WHERE state = 2 AND owner = workers.id)
FROM workers ORDER BY id
