DELETE FROM {schema}.flows WHERE flow = %(flow)s
