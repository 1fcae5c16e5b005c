SELECT position, record FROM {schema}.history
WHERE message_id = %(value)s AND position < %(before)s ORDER BY position DESC LIMIT %(count)s
