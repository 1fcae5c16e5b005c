"""Counters in a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres import Database, Statements, open_database
from ...postgres.statements import read_folder
from ._counters import ROWS_PER_SWEEP, CountersBackend, CountersInTransaction

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from ...workflows.store import WorkflowStore

__all__ = ["PostgresBackend"]

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))


class PostgresBackend(CountersBackend):
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

    first_pause_s = 0.004
    longest_pause_s = 0.1

    def __init__(self, *, url: str = "", schema: str = "dramatiq", broker: Any = None) -> None:
        super().__init__()
        self.database: Database = open_database(url, schema) if broker is None else broker.database
        self._sql = Statements(_TEXTS, self.database.schema)

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

    def _transact(
        self, keys: list[str], operation: Callable[[CountersInTransaction], bool]
    ) -> bool:
        def locked(cursor: psycopg.Cursor[Any]) -> bool:
            counters = _Counters(cursor, self._sql)
            counters.lock(keys)
            return operation(counters)

        return self.database.run(locked)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.postgres import PostgresStore  # few applications have workflows

        return PostgresStore(self.database)


class _Counters(CountersInTransaction):
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

    def sweep(self) -> None:
        """Delete some of what has expired."""
        for name in ("sweep_limits", "sweep_events"):
            self._cursor.execute(self._sql[name], {"count": ROWS_PER_SWEEP})
