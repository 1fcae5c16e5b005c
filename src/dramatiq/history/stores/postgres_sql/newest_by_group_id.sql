SELECT position, record FROM {schema}.history
WHERE group_id = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
