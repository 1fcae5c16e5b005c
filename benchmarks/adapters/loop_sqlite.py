"""The limit: a bare loop over one table, with nothing that makes a task queue useful.

One statement settles the last hundred messages, one leases the next, in one synced transaction.
No threads, no hooks, no retries, and nobody takes over what a dead process had leased.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from typing import TYPE_CHECKING

from . import driver

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Messages per transaction.
BATCH = 100
#: Seconds between two looks at an empty table.
POLL_S = 0.001

SCHEMA = "CREATE TABLE IF NOT EXISTS message (id INTEGER PRIMARY KEY, body TEXT, owner INTEGER)"
INDEX = "CREATE INDEX IF NOT EXISTS message_free ON message (id) WHERE owner IS NULL"
SEND = "INSERT INTO message (body) VALUES (?)"
LEASE = """
UPDATE message SET owner = ?
WHERE id IN (SELECT id FROM message WHERE owner IS NULL ORDER BY id LIMIT ?)
RETURNING id, body
"""

MARKS = driver.marks()

database = sqlite3.connect(driver.store(), timeout=10, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute(SCHEMA)
database.execute(INDEX)


def version() -> str:
    """Return the version of SQLite."""
    return sqlite3.sqlite_version


def send(index: int) -> None:
    """Enqueue one no-op."""
    database.execute(SEND, (json.dumps({"args": [index]}),))


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    database.executemany(SEND, [(json.dumps({"args": [index]}),) for index in indices])
    database.execute("COMMIT")


def greet() -> None:
    """Enqueue one greeting."""
    database.execute(SEND, (json.dumps({}),))


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the commands that start the workers; threads would only slow the loop down."""
    del threads
    return [[sys.executable, "-m", __name__]] * processes


def take(done: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Drop what is done and lease the next messages."""
    database.execute("BEGIN IMMEDIATE")
    database.executemany("DELETE FROM message WHERE id = ?", [(key,) for key, _ in done])
    leased = database.execute(LEASE, (os.getpid(), BATCH)).fetchall()
    database.execute("COMMIT")
    return leased


def is_idle() -> bool:
    """Tell, without a write, whether there is nothing to lease."""
    free = "SELECT NOT EXISTS (SELECT 1 FROM message WHERE owner IS NULL)"
    return bool(database.execute(free).fetchone()[0])


def main() -> None:
    """Work for ever."""
    leased: list[tuple[int, str]] = []
    while True:
        if not leased and is_idle():
            time.sleep(POLL_S)
            continue
        leased = take(leased)
        for _, body in leased:
            arguments = json.loads(body).get("args")
            if arguments is None:
                driver.greeting(MARKS)
            else:
                MARKS.mark(arguments[0])


if __name__ == "__main__":
    main()
