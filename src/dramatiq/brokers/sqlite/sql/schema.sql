-- Messages in every state: 0 ready, 1 delayed, 2 leased, 3 dead.
-- seq is never used again (AUTOINCREMENT), so that with the owner it names one delivery.
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    did BLOB NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    state INTEGER NOT NULL,
    prio INTEGER NOT NULL,
    -- Milliseconds: when it was sent, when it is due, or when it died.
    position INTEGER NOT NULL,
    owner INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    why TEXT,
    -- Text where it is JSON without control characters, else a blob.
    payload NOT NULL
);
CREATE INDEX messages_ready ON messages (queue, prio, position, seq) WHERE state = 0;
CREATE INDEX messages_delayed ON messages (queue, position) WHERE state = 1;
CREATE INDEX messages_leased ON messages (owner) WHERE state = 2;
CREATE INDEX messages_dead ON messages (queue, position) WHERE state = 3;
-- One row for each living worker process; its slot is the byte it locks in the lock file.
CREATE TABLE workers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    slot INTEGER NOT NULL UNIQUE,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL
);
-- Deliveries that ran to their end after their lease was lost: not to be run again.
CREATE TABLE done (
    did BLOB PRIMARY KEY,
    at INTEGER NOT NULL
) WITHOUT ROWID;
