UPDATE {schema}.workers SET has_lock = true, beat_at = {schema}.now_ms() WHERE id = %(owner)s
