-- All messages that are to run, in the order of their ids.
SELECT did, seq, queue, state, prio, position, owner, crashes, NULL, payload
FROM {schema}.messages WHERE did > %(did)s ORDER BY did LIMIT %(count)s
