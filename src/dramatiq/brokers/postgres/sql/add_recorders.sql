UPDATE {schema}.workers SET recorders = recorders || %(recorders)s::text[] WHERE id = %(owner)s
