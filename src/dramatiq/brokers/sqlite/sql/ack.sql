DELETE FROM messages
WHERE state = 2 AND owner = :owner AND seq IN (SELECT value FROM json_each(:seqs))
