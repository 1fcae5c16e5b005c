SELECT worker, name FROM worker_recorders ORDER BY worker, name
