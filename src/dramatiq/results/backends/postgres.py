"""Results in a PostgreSQL database."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...delivery import current_follow_ups
from ...postgres import Database, Statements, open_database
from ...postgres.statements import read_folder
from .. import backend as settings
from ..backend import Missing, ResultBackend
from ..errors import ResultTimeout

if TYPE_CHECKING:
    import psycopg

    from ...delivery import FollowUps
    from ...encoder import Encoder
    from ...message import Message
    from ...workflows.store import WorkflowStore
    from ..backend import MResult, Result

__all__ = ["PostgresBackend"]

#: Seconds between two looks of a waiting reader: the first pause, and the longest.
FIRST_PAUSE_S = 0.004
LONGEST_PAUSE_S = 0.1
#: How much longer each pause is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired results too, up to the second number: four times as many
#: as are stored meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))


class PostgresBackend(ResultBackend):
    """Keeps results in a schema of a PostgreSQL database.

    In the schema of the broker that runs the message, a result is stored in one transaction with
    its acknowledgement: there is never one without the other.

    Args:
        url: See `PostgresBroker`; used if there is no ``broker``.
        schema: The schema of the tables; used if there is no ``broker``.
        broker: A PostgreSQL broker whose schema to use.
        namespace: See `ResultBackend`.
        encoder: See `ResultBackend`.
        use_namespace_prefix_keys: See `ResultBackend`.

    Attributes:
        database: The database in use.

    Raises:
        ValueError: If ``url`` or ``schema`` is not valid.
    """

    def __init__(
        self,
        *,
        url: str = "",
        schema: str = "dramatiq",
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
        self.database: Database = open_database(url, schema) if broker is None else broker.database
        self._sql = Statements(_TEXTS, self.database.schema)
        self._writes = count()

    def get_result(
        self, message: Message[Any], *, block: bool = False, timeout: int | None = None
    ) -> Result:
        """Return the result of ``message``; see `ResultBackend.get_result`.

        A blocking read waits for its whole timeout, and sees a result within a tenth of a second.
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
        """Tell whether storing waits for the server: not if the settlement takes it along."""
        return not self._joins(follow_ups)

    def _joins(self, follow_ups: FollowUps | None) -> bool:
        if follow_ups is None or not follow_ups.collects:
            return False
        return getattr(follow_ups.store, "database", None) is self.database

    def _get(self, message_key: str) -> MResult:
        arguments = {"key": message_key}
        rows = self.database.run(
            lambda cursor: cursor.execute(self._sql["get"], arguments).fetchall(),
            in_transaction=False,
        )
        return self.encoder.decode(rows[0][0]) if rows else Missing

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        arguments = {"key": message_key, "value": self.encoder.encode(result), "ttl": ttl}
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0

        def store(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(self._sql["store"], arguments)
            if sweeps:
                cursor.execute(self._sql["sweep"], {"count": ROWS_PER_SWEEP})

        follow_ups = current_follow_ups()
        if follow_ups is not None and self._joins(follow_ups):
            follow_ups.operations.append((self.database, store))
        else:
            self.database.run(store, in_transaction=False)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.postgres import PostgresStore  # few applications have workflows

        return PostgresStore(self.database)
