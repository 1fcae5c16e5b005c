SELECT position, record FROM {schema}.history
WHERE position < %(before)s ORDER BY position DESC LIMIT %(count)s
