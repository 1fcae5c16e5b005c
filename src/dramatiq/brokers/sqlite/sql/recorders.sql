-- Where each worker writes down what it runs. An owner may have several, one for each `Worker`.
CREATE TABLE worker_recorders (
    worker INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (worker, name)
) WITHOUT ROWID
