"""Results in an SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...delivery import current_follow_ups
from ...sqlite import DEFAULT_PATH, open_database
from .. import backend as settings
from ..backend import Missing, ResultBackend
from ..errors import ResultTimeout

if TYPE_CHECKING:
    import os
    import sqlite3

    from ...delivery import FollowUps
    from ...encoder import Encoder
    from ...message import Message
    from ...sqlite import Database
    from ...workflows.store import WorkflowStore
    from ..backend import MResult, Result

__all__ = ["SQLiteBackend"]

#: Seconds between two looks of a waiting reader: the first pause, and the longest. Another
#: process's commit wakes nobody here, and a look costs some 10 microseconds.
FIRST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.05
#: How much longer each pause is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired results too, up to the second number: four times as many
#: as are stored meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64

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


class SQLiteBackend(ResultBackend):
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
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self.database: Database = open_database(path) if broker is None else broker.database
        self.database.ensure_schema("results", _SCHEMA)
        self._writes = count()

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Result:
        """Return the result of ``message``; see `ResultBackend.get_result`.

        A blocking read waits for its whole timeout, and sees a result within 50 milliseconds.
        """
        if not block:
            return super().get_result(message)
        timeout = settings.DEFAULT_TIMEOUT if timeout is None else timeout
        deadline_s = time.monotonic() + timeout / 1000
        message_key = self.build_message_key(message)
        pause_s = FIRST_PAUSE_S
        while (result := self._get(message_key)) is Missing:
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise ResultTimeout(message)
            time.sleep(min(pause_s, remaining_s))
            pause_s = min(pause_s * PAUSE_GROWTH, LONGEST_PAUSE_S)
        return self.unwrap_result(result)

    def may_block(self, follow_ups: FollowUps) -> bool:
        """Tell whether storing waits for the disk: not if the settlement takes it along."""
        return not self._joins(follow_ups)

    def _joins(self, follow_ups: FollowUps | None) -> bool:
        if follow_ups is None or not follow_ups.collects:
            return False
        return getattr(follow_ups.store, "database", None) is self.database

    def _get(self, message_key: str) -> MResult:
        row = self.database.read(
            lambda connection: connection.execute(_GET, (message_key, current_millis())).fetchone()
        )
        return Missing if row is None else self.encoder.decode(row[0])

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        value = self.encoder.encode(result)
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0

        def store(connection: sqlite3.Connection) -> None:
            now = current_millis()
            connection.execute(_STORE, (message_key, value, now + ttl))
            if sweeps:
                connection.execute(_SWEEP, (now, ROWS_PER_SWEEP))

        follow_ups = current_follow_ups()
        if follow_ups is not None and self._joins(follow_ups):
            follow_ups.operations.append((self.database, store))
        else:
            self.database.write(store)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.sqlite import SQLiteStore  # few applications have workflows

        return SQLiteStore(self.database)
