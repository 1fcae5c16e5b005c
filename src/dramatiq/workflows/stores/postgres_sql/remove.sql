DELETE FROM {schema}.flow_fields WHERE flow = %(flow)s AND name = ANY (%(names)b::text[])
