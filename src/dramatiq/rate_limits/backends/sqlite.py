"""Counters in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import json
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...sqlite import DEFAULT_PATH, open_database
from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable, Iterable

    from ...sqlite import Database
    from ...workflows.store import WorkflowStore

__all__ = ["SQLiteBackend"]

#: Seconds between two looks of a waiter: the first pause, and the longest. Another process's
#: commit wakes nobody here, and a look costs some 10 microseconds.
FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.05
#: How much longer each pause is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired rows too, up to the second number: four times as many as
#: are written meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64

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


class SQLiteBackend(RateLimiterBackend):
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

    def __init__(self, *, path: str | os.PathLike[str] = DEFAULT_PATH, broker: Any = None) -> None:
        self.database: Database = open_database(path) if broker is None else broker.database
        self.database.ensure_schema("rate_limits", _SCHEMA)
        self._writes = count()

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""

        def add(counters: _Counters) -> bool:
            if counters.read(key) is not None:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change(add)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""

        def increase(counters: _Counters) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change(increase)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        return self._change(lambda counters: counters.decrease(key, amount, minimum, ttl))

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``."""

        def increase(counters: _Counters) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum or counters.sum(keys()) + amount > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change(increase)

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``, once."""
        member_key = f"{key}@{member}"

        def arrive(counters: _Counters) -> bool:
            answer = counters.read(member_key)
            if answer is None:
                answer = int(not counters.decrease(key, 1, 1, ttl))
            counters.write(member_key, answer, ttl)
            return bool(answer)

        return self._change(arrive)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Block until an event is there; None waits for ever."""
        deadline_s = None if timeout is None else time.monotonic() + timeout / 1000
        pause_s = FIRST_PAUSE_S
        while not self._look(key):
            if deadline_s is not None:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    return False
                pause_s = min(pause_s, remaining_s)
            time.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, LONGEST_PAUSE_S)
        return True

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

    def _change(self, change: Callable[[_Counters], bool]) -> bool:
        """Run ``change`` in a write transaction of its own, and tell what it did."""
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0

        def operation(connection: sqlite3.Connection) -> bool:
            counters = _Counters(connection)
            if sweeps:
                counters.sweep()
            return change(counters)

        return self.database.write(operation)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.sqlite import SQLiteStore  # few applications have workflows

        return SQLiteStore(self.database)


class _Counters:
    """The counters as one write transaction sees them, at one moment."""

    __slots__ = ("_connection", "_now")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._now = current_millis()

    def read(self, key: str) -> int | None:
        """Return the value of a key, None if it is absent or has expired."""
        row = self._connection.execute(_READ, (key, self._now)).fetchone()
        return None if row is None else row[0]

    def sum(self, keys: Iterable[str]) -> int:
        """Return the sum of the values of many keys."""
        (total,) = self._connection.execute(_SUM, (json.dumps(list(keys)), self._now)).fetchone()
        return int(total)

    def write(self, key: str, value: int, ttl: int) -> None:
        """Set a key."""
        self._connection.execute(_WRITE, (key, value, self._now + ttl))

    def decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from a key unless it would fall below ``minimum``."""
        value = (self.read(key) or 0) - amount
        if value < minimum:
            return False
        self.write(key, value, ttl)
        return True

    def sweep(self) -> None:
        """Delete some of what has expired."""
        for statement in _SWEEPS:
            self._connection.execute(statement, (self._now, ROWS_PER_SWEEP))
