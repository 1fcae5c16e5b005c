"""Counters in a PostgreSQL database."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres import Database, Statements, open_database
from ...postgres.statements import read_folder
from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import psycopg

    from ...workflows.store import WorkflowStore

__all__ = ["PostgresBackend"]

#: Seconds between two looks of a waiter: the first pause, and the longest.
FIRST_PAUSE_S = 0.004
LONGEST_PAUSE_S = 0.1
#: How much longer each pause is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired rows too, up to the second number: four times as many as
#: are written meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))


class PostgresBackend(RateLimiterBackend):
    """Keeps counters and events in a schema of a PostgreSQL database.

    Each method is one transaction that holds a lock for each of its keys. Events are kept for
    their time to live: one that was sent before the wait is seen too.

    Args:
        url: See `PostgresBroker`; used if there is no ``broker``.
        schema: The schema of the tables; used if there is no ``broker``.
        broker: A PostgreSQL broker whose schema to use.

    Attributes:
        database: The database in use.

    Raises:
        ValueError: If ``url`` or ``schema`` is not valid.
    """

    def __init__(self, *, url: str = "", schema: str = "dramatiq", broker: Any = None) -> None:
        self.database: Database = open_database(url, schema) if broker is None else broker.database
        self._sql = Statements(_TEXTS, self.database.schema)
        self._writes = count()

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""

        def add(counters: _Counters) -> bool:
            if counters.read(key) is not None:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change([key], add)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""

        def increase(counters: _Counters) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change([key], increase)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        return self._change([key], lambda counters: counters.decrease(key, amount, minimum, ttl))

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``."""
        all_keys = list(keys())

        def increase(counters: _Counters) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum or counters.sum(all_keys) + amount > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        # Whoever adds to one of the others meanwhile would not be counted.
        return self._change([key, *all_keys], increase)

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``, once."""
        member_key = f"{key}@{member}"

        def arrive(counters: _Counters) -> bool:
            answer = counters.read(member_key)
            if answer is None:
                answer = int(not counters.decrease(key, 1, 1, ttl))
            counters.write(member_key, answer, ttl)
            return bool(answer)

        return self._change([key], arrive)

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
        arguments = {"key": key, "ttl": ttl}
        self.database.run(
            lambda cursor: cursor.execute(self._sql["notify"], arguments), in_transaction=False
        )

    def _look(self, key: str) -> bool:
        rows = self.database.run(
            lambda cursor: cursor.execute(self._sql["look"], {"key": key}).fetchall(),
            in_transaction=False,
        )
        return bool(rows)

    def _change(self, keys: list[str], change: Callable[[_Counters], bool]) -> bool:
        """Run ``change`` in a transaction that has these keys for itself; tell what it did."""
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0

        def operation(cursor: psycopg.Cursor[Any]) -> bool:
            counters = _Counters(cursor, self._sql)
            counters.lock(keys)
            if sweeps:
                counters.sweep()
            return change(counters)

        return self.database.run(operation)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.postgres import PostgresStore  # few applications have workflows

        return PostgresStore(self.database)


class _Counters:
    """The counters as one transaction sees them."""

    __slots__ = ("_cursor", "_sql")

    def __init__(self, cursor: psycopg.Cursor[Any], sql: Statements) -> None:
        self._cursor = cursor
        self._sql = sql

    def lock(self, keys: list[str]) -> None:
        """Keep others from changing counters until the end of the transaction."""
        self._cursor.execute(self._sql["lock"], {"keys": sorted(set(keys))})

    def read(self, key: str) -> int | None:
        """Return the value of a key, None if it is absent or has expired."""
        rows = self._cursor.execute(self._sql["read"], {"key": key}).fetchall()
        return int(rows[0][0]) if rows else None

    def sum(self, keys: list[str]) -> int:
        """Return the sum of the values of many keys."""
        [(total,)] = self._cursor.execute(self._sql["sum"], {"keys": keys}).fetchall()
        return int(total)

    def write(self, key: str, value: int, ttl: int) -> None:
        """Set a key."""
        self._cursor.execute(self._sql["write"], {"key": key, "value": value, "ttl": ttl})

    def decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from a key unless it would fall below ``minimum``."""
        value = (self.read(key) or 0) - amount
        if value < minimum:
            return False
        self.write(key, value, ttl)
        return True

    def sweep(self) -> None:
        """Delete some of what has expired."""
        for name in ("sweep_limits", "sweep_events"):
            self._cursor.execute(self._sql[name], {"count": ROWS_PER_SWEEP})
