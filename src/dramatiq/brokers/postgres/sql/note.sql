INSERT INTO {schema}.audit (at, who, verb, what, count)
VALUES (%(at)s, %(who)s, %(verb)s, %(what)s, %(count)s)
