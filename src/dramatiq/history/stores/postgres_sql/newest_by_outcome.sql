SELECT position, record FROM {schema}.history
WHERE outcome = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
