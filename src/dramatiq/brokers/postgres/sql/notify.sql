SELECT pg_notify(%(channel)s, %(queue)s)
