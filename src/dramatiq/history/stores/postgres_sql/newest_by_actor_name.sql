SELECT position, record FROM {schema}.history
WHERE actor_name = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
