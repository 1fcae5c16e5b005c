UPDATE messages SET state = 2, owner = :owner, attempts = attempts + 1
WHERE seq IN (SELECT value FROM json_each(:seqs))
