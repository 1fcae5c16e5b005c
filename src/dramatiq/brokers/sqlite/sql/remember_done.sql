INSERT OR IGNORE INTO done (did, at)
SELECT did, :now FROM messages WHERE seq IN (SELECT value FROM json_each(:seqs))
