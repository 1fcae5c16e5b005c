UPDATE {schema}.workers SET beat_at = {schema}.now_ms() WHERE id = %(owner)s RETURNING id
