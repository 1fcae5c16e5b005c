"""Workflows in an SQLite file: a table of fields, and one of workflows."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

from ...common import current_millis
from ..rules import arrive, exchange
from ..store import RUNNING_TTL, WorkflowStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from ...delivery import Envelope
    from ...sqlite import Database
    from ..store import Arrival, Change, Status

__all__ = ["SQLiteStore"]

_SCHEMA = (
    """
    CREATE TABLE flows (
        flow TEXT PRIMARY KEY, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX flows_created ON flows (created_at)",
    "CREATE INDEX flows_expiry ON flows (expires_at)",
    "CREATE TABLE flows_cancelled (mark TEXT PRIMARY KEY, expires_at INTEGER NOT NULL)",
    "CREATE TABLE flow_fields (flow TEXT, field TEXT, value BLOB, PRIMARY KEY (flow, field))",
)
_LIVES = """
    INSERT INTO flows (flow, created_at, expires_at) VALUES (?, ?, ?)
    ON CONFLICT (flow) DO UPDATE SET expires_at = excluded.expires_at
"""
_SET = """
    INSERT INTO flow_fields (flow, field, value) VALUES (?, ?, ?)
    ON CONFLICT (flow, field) DO UPDATE SET value = excluded.value
"""
_REMOVE = "DELETE FROM flow_fields WHERE flow = ? AND field = ?"
_GET = "SELECT value FROM flow_fields WHERE flow = ? AND field = ?"
_GET_MANY = """
    SELECT field, flow_fields.value FROM json_each(?) AS wanted
    CROSS JOIN flow_fields ON flow = ? AND field = wanted.value
"""
_LIST = """
    SELECT flow FROM flows WHERE expires_at > ? ORDER BY created_at DESC, flow LIMIT ? OFFSET ?
"""
#: Fields of workflows that have expired, some at a time; then the workflows without any.
_SWEEP_FIELDS = """
    DELETE FROM flow_fields WHERE rowid IN (
        SELECT flow_fields.rowid FROM flows JOIN flow_fields USING (flow)
        WHERE expires_at <= ? LIMIT 1000
    )
"""
_SWEEP_FLOWS = """
    DELETE FROM flows WHERE expires_at <= ?
        AND NOT EXISTS (SELECT 1 FROM flow_fields WHERE flow_fields.flow = flows.flow)
"""
#: Most fields read by one statement.
BATCH = 500


class SQLiteStore(WorkflowStore):
    """Keeps workflows in a file, which a broker may share.

    Args:
        database: The file.
        insert: Stores messages; given by the broker whose file it is.
    """

    def __init__(
        self,
        database: Database,
        insert: Callable[[sqlite3.Connection, Sequence[Envelope]], None] | None = None,
    ) -> None:
        database.ensure_schema("workflows-1", _SCHEMA)
        self._database = database
        self._insert = insert
        self.stores_messages = insert is not None

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record arrivals in one transaction."""
        # As small as what they free: a full disk must not keep messages from being settled.
        return self._database.write(
            lambda connection: self.arrive_in(connection, arrivals), frees_space=True
        )

    def arrive_in(
        self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]
    ) -> list[Status]:
        """Record arrivals in a transaction that is open."""
        caches = {flow: _Cache(connection, flow) for flow in {each.flow for each in arrivals}}
        for flow, cache in caches.items():
            cache.load(_touched([each for each in arrivals if each.flow == flow]))
        statuses = [arrive(caches[each.flow], each) for each in arrivals]
        for flow, cache in caches.items():
            cache.flush()
            if cache.get(":state") is not None:
                _live(connection, flow, RUNNING_TTL)
        return statuses

    def change(self, flow: str, change: Change, envelopes: Sequence[Envelope] = ()) -> bool:
        """Make a change, and store messages in the same transaction."""

        def operation(connection: sqlite3.Connection) -> bool:
            if not exchange(_Fields(connection, flow), change):
                return False
            _live(connection, flow, change.ttl)
            if envelopes:
                assert self._insert is not None  # noqa: S101 (see stores_messages)
                self._insert(connection, envelopes)
            return True

        return self._database.write(operation)

    def read(self, flow: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the values of some fields."""
        found = self._database.read(lambda connection: _read(connection, flow, fields))
        return [found.get(name) for name in fields]

    def add(self, flow: str, created_at: int) -> None:
        """List a workflow, and drop some of what has expired."""

        def operation(connection: sqlite3.Connection) -> None:
            now = current_millis()
            connection.execute(_SWEEP_FIELDS, (now,))
            connection.execute(_SWEEP_FLOWS, (now,))
            connection.execute(_LIVES, (flow, created_at, now + RUNNING_TTL))

        self._database.write(operation)

    def flows(self, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return workflows, the newest first."""
        start = int(cursor or 0)
        arguments = (current_millis(), limit, start)
        names = self._database.read(
            lambda connection: [flow for (flow,) in connection.execute(_LIST, arguments)]
        )
        return names, str(start + limit) if len(names) == limit else None

    def delete(self, flow: str) -> None:
        """Forget a workflow."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM flow_fields WHERE flow = ?", (flow,))
            connection.execute("DELETE FROM flows WHERE flow = ?", (flow,))

        self._database.write(operation)

    def cancelled(self) -> set[str]:
        """Return the workflows that are marked cancelled."""
        return self._database.read(
            lambda connection: {
                mark for (mark,) in connection.execute("SELECT mark FROM flows_cancelled")
            }
        )

    def mark_cancelled(self, flow: str, is_cancelled: bool) -> None:
        """Mark a workflow cancelled, or take that back."""
        now = current_millis()

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM flows_cancelled WHERE expires_at <= ?", (now,))
            connection.execute("DELETE FROM flows_cancelled WHERE mark = ?", (flow,))
            if is_cancelled:
                values = (flow, now + RUNNING_TTL)
                connection.execute("INSERT INTO flows_cancelled VALUES (?, ?)", values)

        self._database.write(operation)


def _live(connection: sqlite3.Connection, flow: str, ttl: int) -> None:
    now = current_millis()
    connection.execute(_LIVES, (flow, now, now + ttl))


def _read(connection: sqlite3.Connection, flow: str, fields: Sequence[str]) -> dict[str, bytes]:
    """Return those of the fields that are there."""
    found: dict[str, bytes] = {}
    for start in range(0, len(fields), BATCH):
        some = json.dumps(fields[start : start + BATCH])
        found.update(connection.execute(_GET_MANY, (some, flow)).fetchall())
    return found


def _touched(arrivals: Sequence[Arrival]) -> list[str]:
    """Return most of the fields that some arrivals look at."""
    names = {f"{each.frame}#{each.child}": None for each in arrivals}
    for frame in {each.frame for each in arrivals}:
        names.update(dict.fromkeys(f"{frame}:{name}" for name in ("left", "bad", "pos")))
    return [*names, ":state", ":done", ":failed"]


class _Fields(MutableMapping[str, bytes]):
    """The fields of one workflow, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, flow: str) -> None:
        self._connection = connection
        self._flow = flow

    def __getitem__(self, name: str) -> bytes:
        row = self._connection.execute(_GET, (self._flow, name)).fetchone()
        if row is None:
            raise KeyError(name)
        value: bytes = row[0]
        return value

    def __setitem__(self, name: str, value: bytes) -> None:
        self._connection.execute(_SET, (self._flow, name, value))

    def __delitem__(self, name: str) -> None:
        if not self._connection.execute(_REMOVE, (self._flow, name)).rowcount:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        statement = "SELECT field FROM flow_fields WHERE flow = ?"
        return iter([name for (name,) in self._connection.execute(statement, (self._flow,))])

    def __len__(self) -> int:
        return len(list(iter(self)))


class _Cache(_Fields):
    """The same, read and written many at a time."""

    def __init__(self, connection: sqlite3.Connection, flow: str) -> None:
        super().__init__(connection, flow)
        self._known: dict[str, bytes | None] = {}
        self._changed: set[str] = set()

    def load(self, names: Sequence[str]) -> None:
        """Read fields that are going to be needed."""
        self._known.update(dict.fromkeys(names))
        self._known.update(_read(self._connection, self._flow, names))

    def __getitem__(self, name: str) -> bytes:
        if name not in self._known:
            self.load([name])
        value = self._known[name]
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: bytes) -> None:
        self._known[name] = value
        self._changed.add(name)

    def __delitem__(self, name: str) -> None:
        self[name]
        self._known[name] = None
        self._changed.add(name)

    def flush(self) -> None:
        """Write what was changed."""
        values = [(self._flow, name, self._known[name]) for name in self._changed]
        self._connection.executemany(_SET, [each for each in values if each[2] is not None])
        for _, name, value in values:
            if value is None:
                self._connection.execute(_REMOVE, (self._flow, name))
        self._changed.clear()
