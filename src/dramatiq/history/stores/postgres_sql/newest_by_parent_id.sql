SELECT position, record FROM {schema}.history
WHERE parent_id = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
