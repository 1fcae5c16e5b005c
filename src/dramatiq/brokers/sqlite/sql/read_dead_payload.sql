-- What a message holds that is dead.
SELECT CAST(payload AS BLOB) FROM messages WHERE seq = :seq AND state = 3
