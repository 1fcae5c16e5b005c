SELECT position, record FROM {schema}.history
WHERE queue_name = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
