DELETE FROM {schema}.flow_fields WHERE flow = %(flow)s
