SELECT at, who, verb, what, count FROM {schema}.audit ORDER BY id DESC LIMIT %(count)s
