-- Queues of which nothing is taken.
CREATE TABLE paused (queue TEXT PRIMARY KEY) WITHOUT ROWID;
