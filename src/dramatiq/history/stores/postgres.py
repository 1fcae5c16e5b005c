"""The history in a PostgreSQL database, shared by the workers of many machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...postgres import Database, Statements, open_database
from ...postgres.repeating import run_again
from ...postgres.statements import read_folder
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
    from collections.abc import Iterable, Sequence

    import psycopg

    from ..store import Index

__all__ = ["PostgresStore"]

#: Most rows of counts and of failures that one write removes.
ROWS_PER_SWEEP = 64
#: Most bytes of a name or an id that is indexed: an entry of an index has 2,704 at most, and two of
#: them have to fit. https://www.postgresql.org/docs/current/btree.html
LONGEST_KEY = 1_000

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))
_COLUMNS = (
    *("ended_at", "message_id", "actor_name", "queue_name"),
    *("outcome", "parent_id", "group_id", "record"),
)
_HIGHEST_POSITION = 2**63 - 1


class PostgresStore(HistoryStore):
    """Keeps the history in a schema of a PostgreSQL database.

    A crash of the server may lose the attempts of the last half second: nobody waits for its disk.

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

    def add(self, attempts: Sequence[Attempt], *, ttl: int, max_records: int) -> None:
        """Add attempts; see `HistoryStore.add`."""
        if not attempts:
            return
        now = current_millis()
        steps: list[tuple[str, dict[str, Any]]] = [
            ("relax", {}),
            ("insert", _columns(_COLUMNS, map(_row, attempts))),
            ("count", _counts(attempts)),
        ]
        if failures := _failures(attempts):
            steps.append(("fail", failures))
        most = len(attempts) * PRUNED_PER_ATTEMPT
        steps += [
            ("prune", {"most": most, "before": now - ttl, "max_records": max_records}),
            ("forget_minutes", _sweep(now // MINUTE_MS - MINUTES_KEPT)),
            ("forget_failures", _sweep(now - ttl)),
        ]
        self._run(steps)

    def newest(self, index: Index | None, *, before: int | None, limit: int) -> list[Attempt]:
        """Return attempts; see `HistoryStore.newest`."""
        arguments = {"before": _HIGHEST_POSITION if before is None else before, "count": limit}
        if index is None:
            rows = self._fetch("newest", arguments)
        else:
            column, value = index
            rows = self._fetch(f"newest_by_{column}", {**arguments, "value": _key(value)})
        return [decode(record, position) for position, record in rows]

    def actors(self) -> list[str]:
        """Return the names of actors; see `HistoryStore.actors`."""
        return [name for (name,) in self._fetch("actors", {})]

    def failures(self, *, limit: int = 100) -> list[FailureGroup]:
        """Return groups of failures; see `HistoryStore.failures`."""
        rows = self._fetch("failures", {"count": limit})
        return [
            FailureGroup(actor_name, exception, count, first_seen, last_seen, decode(sample))
            for actor_name, exception, count, first_seen, last_seen, sample in rows
        ]

    def counts_since(self, minute: int) -> Iterable[tuple[MinuteKey, int]]:
        """Return counts per minute; see `HistoryStore.counts_since`."""
        rows = self._fetch("counts", {"minute": minute})
        return [(MinuteKey(*key), count) for *key, count in rows]

    def clear(self) -> None:
        """Forget everything."""
        tables = ("history", "history_minutes", "history_failures")
        self._run([(f"clear_{table}", {}) for table in tables])

    def _run(self, steps: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Carry out statements in one transaction; all do it in the same order."""

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            for name, arguments in steps:
                cursor.execute(self._sql[name], arguments)

        run_again(self.database, operation)

    def _fetch(self, name: str, arguments: dict[str, Any]) -> list[Any]:
        return self.database.run(
            lambda cursor: cursor.execute(self._sql[name], arguments).fetchall(),
            in_transaction=False,
        )


def _row(attempt: Attempt) -> tuple[Any, ...]:
    outcome = None if attempt.outcome is AttemptOutcome.DONE else attempt.outcome.value
    keys = (
        *(attempt.message_id, attempt.actor_name, attempt.queue_name, outcome),
        *(attempt.parent_id, attempt.group_id),
    )
    return (attempt.ended_at, *map(_key, keys), encode(attempt))


def _counts(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the counts to add, in an order that is the same for all who do so."""
    sums: dict[tuple[Any, ...], int] = {}
    for (minute, *names), count in minutes_of(attempts).items():
        key = (minute, *map(_key, names))
        # Names that are too long may have become the same.
        sums[key] = sums.get(key, 0) + count
    columns = ("minutes", "queues", "actors", "outcomes", "counts")
    return _columns(columns, ((*key, count) for key, count in sorted(sums.items())))


def _failures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the failures to add, likewise; nothing if there are none."""
    groups: dict[tuple[Any, ...], list[Attempt]] = {}
    for names, those in failures_of(attempts).items():
        groups.setdefault(tuple(map(_key, names)), []).extend(those)
    if not groups:
        return {}
    columns = ("actors", "exceptions", "counts", "firsts", "lasts", "samples")
    return _columns(
        columns,
        (
            (*key, len(those), those[0].ended_at, those[-1].ended_at, encode(those[-1]))
            for key, those in sorted(groups.items())
        ),
    )


def _columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _sweep(before: int) -> dict[str, int]:
    return {"before": before, "count": ROWS_PER_SWEEP}


def _key(text: str | None) -> str | None:
    """Return what stands for a text in an index: without what PostgreSQL cannot store."""
    if text is None:
        return None
    data = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    return data[:LONGEST_KEY].decode("utf-8", "ignore")
