"""The history in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...sqlite import DEFAULT_PATH, open_database
from ..records import Attempt, AttemptOutcome, FailureGroup
from ..store import (
    MINUTE_MS,
    MINUTES_KEPT,
    PRUNED_PER_ATTEMPT,
    HistoryStore,
    MinuteKey,
    failures_of,
    minutes_of,
)
from ._encoding import decode, encode

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ...sqlite import Database
    from ..store import Index

__all__ = ["SQLiteStore"]

#: Most rows of counts and of failures that one write removes.
ROWS_PER_SWEEP = 64

#: An outcome is NULL where it is "done": nearly all are, and no index need know of them.
_SCHEMA = (
    """
    CREATE TABLE history (
        position INTEGER PRIMARY KEY,
        message_id TEXT NOT NULL,
        actor_name TEXT NOT NULL,
        queue_name TEXT NOT NULL,
        outcome TEXT,
        ended_at INTEGER NOT NULL,
        parent_id TEXT,
        group_id TEXT,
        record TEXT NOT NULL
    )
    """,
    # Each index has the position as its last column, as every index of SQLite has the rowid.
    "CREATE INDEX history_message ON history (message_id)",
    "CREATE INDEX history_actor ON history (actor_name)",
    "CREATE INDEX history_queue ON history (queue_name)",
    "CREATE INDEX history_outcome ON history (outcome) WHERE outcome IS NOT NULL",
    "CREATE INDEX history_parent ON history (parent_id) WHERE parent_id IS NOT NULL",
    "CREATE INDEX history_group ON history (group_id) WHERE group_id IS NOT NULL",
    """
    CREATE TABLE history_minutes (
        minute INTEGER, queue_name TEXT, actor_name TEXT, outcome TEXT, count INTEGER NOT NULL,
        PRIMARY KEY (minute, queue_name, actor_name, outcome)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE history_failures (
        actor_name TEXT, exception TEXT, count INTEGER NOT NULL,
        first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, sample TEXT NOT NULL,
        PRIMARY KEY (actor_name, exception)
    ) WITHOUT ROWID
    """,
)
_INSERT = """
    INSERT INTO history
        (message_id, actor_name, queue_name, outcome, ended_at, parent_id, group_id, record)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_COUNT = """
    INSERT INTO history_minutes VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_FAIL = """
    INSERT INTO history_failures VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        count = count + excluded.count, last_seen = excluded.last_seen, sample = excluded.sample
"""
#: Positions have no gaps, so how many there are is seen from both ends. It stops at the first
#: attempt, in the order in which they came, that is to be kept.
_PRUNE = """
    DELETE FROM history WHERE position < coalesce(
        (
            SELECT position FROM (SELECT * FROM history ORDER BY position LIMIT :most)
            WHERE position > (SELECT max(position) FROM history) - :max_records
                AND ended_at >= :oldest
            ORDER BY position LIMIT 1
        ),
        (SELECT min(position) FROM history) + :most
    )
"""
_FORGET_MINUTES = """
    DELETE FROM history_minutes WHERE (minute, queue_name, actor_name, outcome) IN (
        SELECT minute, queue_name, actor_name, outcome FROM history_minutes
        WHERE minute < ? LIMIT ?
    )
"""
_FORGET_FAILURES = """
    DELETE FROM history_failures WHERE (actor_name, exception) IN (
        SELECT actor_name, exception FROM history_failures WHERE last_seen < ? LIMIT ?
    )
"""
#: Jumps from each name to the next one, so that it takes as many steps as there are actors.
_ACTORS = """
    WITH RECURSIVE names (name) AS (
        SELECT min(actor_name) FROM history
        UNION ALL
        SELECT (SELECT min(actor_name) FROM history WHERE actor_name > name)
        FROM names WHERE name IS NOT NULL
    )
    SELECT name FROM names WHERE name IS NOT NULL
"""
_NEWEST = {
    name: f"""
        SELECT position, record FROM history
        WHERE {condition} AND position < ? ORDER BY position DESC LIMIT ?
    """  # noqa: S608 (the names of our own columns)
    for name, condition in {
        "": "? IS NULL",
        **{
            column: f"{column} = ?"
            for column in (
                *("message_id", "actor_name", "queue_name"),
                *("outcome", "parent_id", "group_id"),
            )
        },
    }.items()
}
_HIGHEST_POSITION = 2**63 - 1


class SQLiteStore(HistoryStore):
    """Keeps the history in an SQLite file.

    Args:
        path: The file; used if there is no ``broker``.
        broker: A SQLite broker whose file to use.

    Attributes:
        database: The database in use.

    Raises:
        ConnectionFailed: If the file is on a network file system.
    """

    def __init__(self, *, path: str | os.PathLike[str] = DEFAULT_PATH, broker: Any = None) -> None:
        self.database: Database = open_database(path) if broker is None else broker.database
        self.database.ensure_schema("history", _SCHEMA)

    def add(self, attempts: Sequence[Attempt], *, ttl: int, max_records: int) -> None:
        """Add attempts; see `HistoryStore.add`."""
        # Made before the transaction, which others wait for.
        rows = [_row(each) for each in attempts]
        counts = [(*key, count) for key, count in minutes_of(attempts).items()]
        failures = [
            (*key, len(those), those[0].ended_at, those[-1].ended_at, encode(those[-1]))
            for key, those in failures_of(attempts).items()
        ]
        now = current_millis()
        pruning = {
            "most": len(attempts) * PRUNED_PER_ATTEMPT,
            "max_records": max_records,
            "oldest": now - ttl,
        }

        def add(connection: sqlite3.Connection) -> None:
            connection.executemany(_INSERT, rows)
            connection.executemany(_COUNT, counts)
            connection.executemany(_FAIL, failures)
            connection.execute(_PRUNE, pruning)
            oldest_minute = now // MINUTE_MS - MINUTES_KEPT
            connection.execute(_FORGET_MINUTES, (oldest_minute, ROWS_PER_SWEEP))
            connection.execute(_FORGET_FAILURES, (now - ttl, ROWS_PER_SWEEP))

        self.database.write(add)

    def newest(self, index: Index | None, *, before: int | None, limit: int) -> list[Attempt]:
        """Return attempts; see `HistoryStore.newest`."""
        column, value = index or ("", None)
        arguments = (value, _HIGHEST_POSITION if before is None else before, limit)
        rows = self._read(_NEWEST[column], arguments)
        return [decode(record, position) for position, record in rows]

    def actors(self) -> list[str]:
        """Return the names of actors; see `HistoryStore.actors`."""
        return [name for (name,) in self._read(_ACTORS, ())]

    def failures(self, *, limit: int = 100) -> list[FailureGroup]:
        """Return groups of failures; see `HistoryStore.failures`."""
        rows = self._read(
            "SELECT * FROM history_failures ORDER BY last_seen DESC LIMIT ?", (limit,)
        )
        return [
            FailureGroup(actor_name, exception, count, first_seen, last_seen, decode(sample))
            for actor_name, exception, count, first_seen, last_seen, sample in rows
        ]

    def counts_since(self, minute: int) -> Iterable[tuple[MinuteKey, int]]:
        """Return counts per minute; see `HistoryStore.counts_since`."""
        rows = self._read("SELECT * FROM history_minutes WHERE minute >= ?", (minute,))
        return [(MinuteKey(*key), count) for *key, count in rows]

    def clear(self) -> None:
        """Forget everything."""

        def clear(connection: sqlite3.Connection) -> None:
            for table in ("history", "history_minutes", "history_failures"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 (the names of our tables)

        self.database.write(clear)

    def _read(self, statement: str, arguments: tuple[Any, ...]) -> list[Any]:
        return self.database.read(
            lambda connection: connection.execute(statement, arguments).fetchall()
        )


def _row(attempt: Attempt) -> tuple[Any, ...]:
    outcome = None if attempt.outcome is AttemptOutcome.DONE else attempt.outcome.value
    return (
        *(attempt.message_id, attempt.actor_name, attempt.queue_name, outcome, attempt.ended_at),
        *(attempt.parent_id, attempt.group_id, encode(attempt)),
    )
