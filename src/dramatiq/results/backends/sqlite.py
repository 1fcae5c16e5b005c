"""Results in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...sqlite import DEFAULT_PATH, open_database
from ..backend import Missing
from ._database import ROWS_PER_SWEEP, DatabaseBackend

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import Callable

    from ...encoder import Encoder
    from ...sqlite import Database
    from ...workflows.store import WorkflowStore
    from ..backend import MResult

__all__ = ["SQLiteBackend"]

_SCHEMA = (
    "CREATE TABLE results (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL)",
    "CREATE INDEX results_expiry ON results (expires_at)",
)
_GET = "SELECT value FROM results WHERE key = ? AND expires_at > ?"
_STORE = """
    INSERT INTO results (key, value, expires_at) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""
_SWEEP = """
    DELETE FROM results
    WHERE rowid IN (SELECT rowid FROM results WHERE expires_at <= ? LIMIT ?)
"""


class SQLiteBackend(DatabaseBackend):
    """Keeps results in an SQLite file.

    In the file of the broker that runs the message, a result is stored in one step with its
    acknowledgement: there is never one without the other, and no write waits for its own.

    Args:
        path: The file; used if there is no ``broker``.
        broker: A SQLite broker whose file to use.
        namespace: See `ResultBackend`.
        encoder: See `ResultBackend`.
        use_namespace_prefix_keys: See `ResultBackend`.

    Attributes:
        database: The database in use.

    Raises:
        ConnectionFailed: If the file is on a network file system.
    """

    database: Database
    # Another process's commit wakes nobody here, and a look costs some 10 microseconds.
    first_pause_s = 0.002
    longest_pause_s = 0.05

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] = DEFAULT_PATH,
        broker: Any = None,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
    ) -> None:
        super().__init__(
            open_database(path) if broker is None else broker.database,
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self.database.ensure_schema("results", _SCHEMA)

    def _get(self, message_key: str) -> MResult:
        row = self.database.read(
            lambda connection: connection.execute(_GET, (message_key, current_millis())).fetchone()
        )
        return Missing if row is None else self.encoder.decode(row[0])

    def _writer(
        self, message_key: str, value: bytes, ttl: int, *, sweeps: bool
    ) -> Callable[[sqlite3.Connection], None]:
        def store(connection: sqlite3.Connection) -> None:
            now = current_millis()
            connection.execute(_STORE, (message_key, value, now + ttl))
            if sweeps:
                connection.execute(_SWEEP, (now, ROWS_PER_SWEEP))

        return store

    def _write(self, store: Callable[[sqlite3.Connection], None]) -> None:
        self.database.write(store)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.sqlite import SQLiteStore  # few applications have workflows

        return SQLiteStore(self.database)
