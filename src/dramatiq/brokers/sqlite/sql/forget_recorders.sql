-- Drop what workers that do not know this table have left behind.
DELETE FROM worker_recorders WHERE worker NOT IN (SELECT id FROM workers)
