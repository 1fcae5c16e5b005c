"""Workflows in a PostgreSQL database: a table of fields, and one of workflows.

Whoever changes a workflow locks its row first; where they are several, in the order of their ids.
What many arrivals look at is read in one step, the rules are followed here, and what has changed is
written in one step: however many there are, it is a handful of round trips, and a counter that all
of them change is written once.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres import Statements
from ...postgres.repeating import run_again
from ...postgres.statements import read_folder
from ..rules import arrive, exchange
from ..store import RUNNING_TTL, WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import psycopg

    from ...delivery import Envelope
    from ...postgres import Database
    from ..store import Arrival, Change, Status

__all__ = ["PostgresStore"]

#: Milliseconds by which a workflow may live shorter than it is told, so that its row is not
#: written for every arrival: an hour of the week.
SLACK = 3_600_000
#: Most fields, and most workflows, that one statement sweeps.
ROWS_PER_SWEEP = 1000
#: Most such statements while a workflow is made: enough to keep up with those that are larger.
SWEEPS = 20

_TEXTS = read_folder(Path(__file__).with_name("postgres_sql"))


class PostgresStore(WorkflowStore):
    """Keeps workflows in a schema, which a broker may share.

    Args:
        database: The schema.
        insert: Stores messages; given by the broker whose schema it is.
    """

    def __init__(
        self,
        database: Database,
        insert: Callable[[psycopg.Cursor[Any], Sequence[Envelope]], None] | None = None,
    ) -> None:
        self._database = database
        self._sql = Statements(_TEXTS, database.schema)
        self._insert = insert
        self.stores_messages = insert is not None

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record arrivals in one transaction."""
        if not arrivals:
            return []
        wanted: dict[str, set[str]] = {}
        for each in arrivals:
            wanted.setdefault(each.flow, set()).update(_touched(each))

        def operation(cursor: psycopg.Cursor[Any]) -> list[Status]:
            flows = _Flows(cursor, self._sql, wanted)
            statuses = [arrive(flows[each.flow], each) for each in arrivals]
            flows.write([flow for flow in wanted if ":state" in flows[flow]], RUNNING_TTL)
            return statuses

        return run_again(self._database, operation)

    def change(self, flow: str, change: Change, envelopes: Sequence[Envelope] = ()) -> bool:
        """Make a change, and store messages in the same transaction."""
        removed = [name for name, value in change.values.items() if value is None]
        names = {*change.expected, *change.increments, *removed}

        def operation(cursor: psycopg.Cursor[Any]) -> bool:
            flows = _Flows(cursor, self._sql, {flow: names})
            if not exchange(flows[flow], change):
                return False
            flows.write([flow], change.ttl)
            if envelopes:
                assert self._insert is not None  # noqa: S101 (see stores_messages)
                self._insert(cursor, envelopes)
            return True

        return run_again(self._database, operation)

    def read(self, flow: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the values of some fields."""
        found = dict(self._fetch("read", flow=flow, names=list(fields)))
        return [found.get(name) for name in fields]

    def add(self, flow: str, created_at: int) -> None:
        """List a workflow, and drop some of what has expired."""
        for _ in range(SWEEPS):
            if self._execute("sweep_fields", count=ROWS_PER_SWEEP) < ROWS_PER_SWEEP:
                break
        self._execute("sweep_flows", count=ROWS_PER_SWEEP)
        self._execute("add", flow=flow, created_at=created_at, ttl=RUNNING_TTL)

    def flows(self, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return workflows, the newest first."""
        if cursor is None:
            rows = self._fetch("list_first", count=limit)
        else:
            created_at, _, flow = cursor.partition(" ")
            rows = self._fetch("list", count=limit, created_at=int(created_at), flow=flow)
        following = f"{rows[-1][1]} {rows[-1][0]}" if rows and len(rows) == limit else None
        return [flow for flow, _ in rows], following

    def delete(self, flow: str) -> None:
        """Forget a workflow; whoever changes it at the moment is waited for."""

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            # In this order: the second one sees what was written until the first one was done.
            cursor.execute(self._sql["delete"], {"flow": flow})
            cursor.execute(self._sql["delete_fields"], {"flow": flow})

        run_again(self._database, operation)

    def cancelled(self) -> set[str]:
        """Return the workflows that are marked cancelled."""
        return {mark for (mark,) in self._fetch("cancelled")}

    def mark_cancelled(self, flow: str, is_cancelled: bool) -> None:
        """Mark a workflow cancelled, or take that back."""
        if is_cancelled:
            self._execute("mark", mark=flow, ttl=RUNNING_TTL)
        else:
            self._execute("unmark", mark=flow)

    def _fetch(self, name: str, **arguments: Any) -> list[Any]:
        return self._database.run(
            lambda cursor: cursor.execute(self._sql[name], arguments).fetchall(),
            in_transaction=False,
        )

    def _execute(self, name: str, **arguments: Any) -> int:
        return self._database.run(
            lambda cursor: cursor.execute(self._sql[name], arguments).rowcount,
            in_transaction=False,
        )


def _touched(arrival: Arrival) -> Iterator[str]:
    """Yield the fields that an arrival looks at, but for one that is known only later."""
    yield from (":state", ":done", ":failed", f"{arrival.frame}#{arrival.child}")
    for name in ("left", "bad", "pos"):
        yield f"{arrival.frame}:{name}"


class _Flows:
    """Some workflows in a transaction, which has them for itself.

    Args:
        cursor: In the transaction.
        sql: The statements.
        wanted: The workflows to lock, with the fields to read at once.
    """

    def __init__(
        self, cursor: psycopg.Cursor[Any], sql: Statements, wanted: dict[str, set[str]]
    ) -> None:
        self._cursor = cursor
        self._sql = sql
        self._fields = {flow: _Fields(self, flow) for flow in wanted}
        #: Those that are there and have not expired.
        self._alive: set[str] = set()
        self._load(list(wanted), [(flow, name) for flow in wanted for name in wanted[flow]])

    def __getitem__(self, flow: str) -> _Fields:
        return self._fields[flow]

    def load(self, flow: str, name: str) -> None:
        """Read a field that turned out to be needed."""
        self._load([], [(flow, name)])

    def _load(self, locked: list[str], wanted: list[tuple[str, str]]) -> None:
        for flow, name in wanted:
            self._fields[flow].known[name] = None
        arguments = {
            "locked": locked,
            "flows": [flow for flow, _ in wanted],
            "names": [name for _, name in wanted],
        }
        for flow, name, value in self._cursor.execute(self._sql["lock"], arguments):
            if name is None:
                self._alive.add(flow)
            elif flow in self._alive:
                self._fields[flow].known[name] = value

    def write(self, alive: Iterable[str], ttl: int) -> None:
        """Write what was changed, and have workflows live for so many milliseconds."""
        written = [
            (flow, name, fields.known[name])
            for flow, fields in self._fields.items()
            for name in fields.changed
        ]
        kept = [each for each in written if each[2] is not None]
        arguments = {
            "flows": [flow for flow, _, _ in kept],
            "names": [name for _, name, _ in kept],
            "values": [value for _, _, value in kept],
            "alive": list(alive),
            "ttl": ttl,
            "slack": SLACK,
        }
        self._cursor.execute(self._sql["write"], arguments)
        for flow in {flow for flow, _, value in written if value is None}:
            known = self._fields[flow].known
            names = [name for name in self._fields[flow].changed if known[name] is None]
            self._cursor.execute(self._sql["remove"], {"flow": flow, "names": names})


class _Fields(MutableMapping[str, bytes]):
    """The fields of one workflow, as far as somebody looks at them."""

    __slots__ = ("_flow", "_flows", "changed", "known")

    def __init__(self, flows: _Flows, flow: str) -> None:
        self._flows = flows
        self._flow = flow
        #: What has been read or written; None for what is not there.
        self.known: dict[str, bytes | None] = {}
        #: The names of what is to be written.
        self.changed: set[str] = set()

    def __getitem__(self, name: str) -> bytes:
        if name not in self.known:
            self._flows.load(self._flow, name)
        value = self.known[name]
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: bytes) -> None:
        self.known[name] = value
        self.changed.add(name)

    def __delitem__(self, name: str) -> None:
        self[name]
        self.known[name] = None
        self.changed.add(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self.known.items() if value is not None)

    def __len__(self) -> int:
        return len(list(iter(self)))
