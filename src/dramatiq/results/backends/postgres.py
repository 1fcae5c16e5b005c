"""Results in a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres import Database, Statements, open_database
from ...postgres.statements import read_folder
from ..backend import Missing
from ._database import ROWS_PER_SWEEP, DatabaseBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from ...encoder import Encoder
    from ...workflows.store import WorkflowStore
    from ..backend import MResult

__all__ = ["PostgresBackend"]

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))


class PostgresBackend(DatabaseBackend):
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

    database: Database
    first_pause_s = 0.004
    longest_pause_s = 0.1

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
            open_database(url, schema) if broker is None else broker.database,
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self._sql = Statements(_TEXTS, self.database.schema)

    def _get(self, message_key: str) -> MResult:
        arguments = {"key": message_key}
        rows = self.database.run(
            lambda cursor: cursor.execute(self._sql["get"], arguments).fetchall(),
            in_transaction=False,
        )
        return self.encoder.decode(rows[0][0]) if rows else Missing

    def _writer(
        self, message_key: str, value: bytes, ttl: int, *, sweeps: bool
    ) -> Callable[[psycopg.Cursor[Any]], None]:
        arguments = {"key": message_key, "value": value, "ttl": ttl}

        def store(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(self._sql["store"], arguments)
            if sweeps:
                cursor.execute(self._sql["sweep"], {"count": ROWS_PER_SWEEP})

        return store

    def _write(self, store: Callable[[psycopg.Cursor[Any]], None]) -> None:
        self.database.run(store, in_transaction=False)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.postgres import PostgresStore  # few applications have workflows

        return PostgresStore(self.database)
