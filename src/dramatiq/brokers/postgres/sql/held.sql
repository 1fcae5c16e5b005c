SELECT did FROM {schema}.messages WHERE state = 2 AND owner = %(owner)s AND queue = %(queue)s
