"""Counters in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...sqlite import DEFAULT_PATH, open_database
from ._counters import ROWS_PER_SWEEP, CountersBackend, CountersInTransaction

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable

    from ...sqlite import Database
    from ...workflows.store import WorkflowStore

__all__ = ["SQLiteBackend"]

_SCHEMA = (
    """
    CREATE TABLE limits (
        key TEXT PRIMARY KEY, value INTEGER NOT NULL, expires_at INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX limits_expiry ON limits (expires_at)",
    "CREATE TABLE limit_events (key TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX limit_events_expiry ON limit_events (expires_at)",
)
_READ = "SELECT value FROM limits WHERE key = ? AND expires_at > ?"
_SUM = """
    SELECT coalesce(sum(limits.value), 0)
    FROM json_each(?) AS wanted JOIN limits ON limits.key = wanted.value
    WHERE limits.expires_at > ?
"""
_WRITE = """
    INSERT INTO limits (key, value, expires_at) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""
_NOTIFY = """
    INSERT INTO limit_events (key, expires_at) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at
"""
_LOOK = "SELECT 1 FROM limit_events WHERE key = ? AND expires_at > ?"
_SWEEPS = (
    """
    DELETE FROM limits
    WHERE key IN (SELECT key FROM limits WHERE expires_at <= ? LIMIT ?)
    """,
    """
    DELETE FROM limit_events
    WHERE key IN (SELECT key FROM limit_events WHERE expires_at <= ? LIMIT ?)
    """,
)


class SQLiteBackend(CountersBackend):
    """Keeps counters and events in an SQLite file.

    Each method is one write transaction, so several processes may share the file. Events are
    kept for their time to live: one that was sent before the wait is seen too.

    Args:
        path: The file; used if there is no ``broker``.
        broker: A SQLite broker whose file to use.

    Attributes:
        database: The database in use.

    Raises:
        ConnectionFailed: If the file is on a network file system.
    """

    # Another process's commit wakes nobody here, and a look costs some 10 microseconds.
    first_pause_s = 0.002
    longest_pause_s = 0.05

    def __init__(self, *, path: str | os.PathLike[str] = DEFAULT_PATH, broker: Any = None) -> None:
        super().__init__()
        self.database: Database = open_database(path) if broker is None else broker.database
        self.database.ensure_schema("rate_limits", _SCHEMA)

    def wait_notify(self, key: str, ttl: int) -> None:
        """Send an event, to be seen for ``ttl`` milliseconds."""

        def notify(connection: sqlite3.Connection) -> None:
            connection.execute(_NOTIFY, (key, current_millis() + ttl))

        self.database.write(notify)

    def _look(self, key: str) -> bool:
        row = self.database.read(
            lambda connection: connection.execute(_LOOK, (key, current_millis())).fetchone()
        )
        return row is not None

    def _transact(
        self, keys: list[str], operation: Callable[[CountersInTransaction], bool]
    ) -> bool:
        # Nobody else writes meanwhile, whatever the keys.
        return self.database.write(lambda connection: operation(_Counters(connection)))

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.sqlite import SQLiteStore  # few applications have workflows

        return SQLiteStore(self.database)


class _Counters(CountersInTransaction):
    """The counters as one write transaction sees them, at one moment."""

    __slots__ = ("_connection", "_now")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._now = current_millis()

    def read(self, key: str) -> int | None:
        """Return the value of a key, None if it is absent or has expired."""
        row = self._connection.execute(_READ, (key, self._now)).fetchone()
        return None if row is None else row[0]

    def sum(self, keys: list[str]) -> int:
        """Return the sum of the values of many keys."""
        (total,) = self._connection.execute(_SUM, (json.dumps(keys), self._now)).fetchone()
        return int(total)

    def write(self, key: str, value: int, ttl: int) -> None:
        """Set a key."""
        self._connection.execute(_WRITE, (key, value, self._now + ttl))

    def sweep(self) -> None:
        """Delete some of what has expired."""
        for statement in _SWEEPS:
            self._connection.execute(statement, (self._now, ROWS_PER_SWEEP))
