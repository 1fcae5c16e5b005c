UPDATE {schema}.workers SET recorders = recorders || %(recorders)b::text[] WHERE id = %(owner)s
