SELECT EXISTS (SELECT 1 FROM {schema}.messages WHERE state = 0 AND queue = %(queue)s)
    OR EXISTS (SELECT 1 FROM {schema}.messages WHERE state = 1 AND queue = %(queue)s)
    OR EXISTS (SELECT 1 FROM {schema}.messages WHERE state = 2 AND queue = %(queue)s)
