-- First of all: whoever is about to lease something to it has to be done, or finds it gone. Not if
-- it has been heard of meanwhile.
DELETE FROM {schema}.workers
WHERE id = %(owner)s AND ({schema}.now_ms() - beat_at >= %(silence)s)
RETURNING recorders
