"""What inspecting a table of messages is like, in whatever database: pages of rows in order.

The statements have the same names everywhere, and rows the same columns: the number within the
order of arrival, queue, state, priority, position, owner, crashes, reason and payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common import q_name
from ..inspection import MessageInfo, QueueCounts, QueueInfo, Selection, State
from ._inspection import Chunk, Entry, StoreInspection

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FIRST", "LAST", "RowInspection"]

#: The smallest and largest number of a column: before and after all others.
FIRST, LAST = -(2**63), 2**63 - 1
#: The states, by the number that the tables have for each.
_STATES = (State.READY, State.DELAYED, State.LEASED, State.DEAD)
#: For each state, what its messages are ordered by, which is what names a place among them.
_ORDERS: dict[State, tuple[str, ...]] = {
    State.READY: ("prio", "position", "seq"),
    State.DELAYED: ("position", "seq"),
    State.LEASED: ("seq",),
    State.DEAD: ("position", "seq"),
}


class RowInspection(StoreInspection):
    """Reads tables of messages."""

    #: What stands for "count all" in the statement ``queue``.
    no_limit: int | None = None

    def _select(self, name: str, **arguments: Any) -> list[Any]:
        """Return the rows of a statement."""
        raise NotImplementedError

    def _split(self, row: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        """Return the key of a message, and the columns from its number in the order on."""
        raise NotImplementedError

    def _queue_names(self) -> set[str]:
        stored = {name for (name,) in self._select("queue_names")}
        return stored | {q_name(name) for name in list(self.broker.queues)}

    def _infos(self, queue_names: Sequence[str], count_limit: int | None) -> list[QueueInfo]:
        limit = self.no_limit if count_limit is None else count_limit
        infos = []
        for name in queue_names:
            [(*counts, is_paused, oldest_at)] = self._select("queue", queue=name, limit=limit)
            infos.append(QueueInfo(name, QueueCounts(*counts), bool(is_paused), oldest_at))
        return infos

    def _read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        arguments: dict[str, Any] = {"queue": queue_name, "count": count}
        start = FIRST
        if state is State.DEAD:
            start = LAST
            arguments["since"] = FIRST if selection.since is None else selection.since
        arguments |= _place(state, after, start)
        return self._chunk(state, self._select(f"read_{state.value}", **arguments), count)

    def _read_dead(
        self, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        if after is None and selection.since is not None:
            after = f"{selection.since},{FIRST}"
        rows = self._select(
            "read_dead_oldest",
            queue=queue_name,
            count=count,
            until=LAST if selection.until is None else selection.until,
            **_place(State.DEAD, after, FIRST),
        )
        return self._chunk(State.DEAD, rows, count)

    def _chunk(self, state: State, rows: list[Any], count: int) -> Chunk:
        entries = []
        for row in rows:
            seq, _, _, prio, position, *_ = self._split(row)[1]
            fields = {"seq": seq, "prio": prio, "position": position}
            after = ",".join(str(fields[name]) for name in _ORDERS[state])
            entries.append(Entry(after, self._info(row)))
        return Chunk(entries, entries[-1].after if len(entries) == count else None)

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        arguments = {"since": FIRST if since is None else since, "until": until}
        [(count,)] = self._select("count_dead", queue=queue_name, **arguments)
        return int(count)

    def _info(self, row: Sequence[Any]) -> MessageInfo:
        key, columns = self._split(row)
        _, queue_name, number, _, position, owner, crashes, why, payload = columns
        state = _STATES[number]
        is_dead = state is State.DEAD
        return MessageInfo(
            key=key,
            queue_name=queue_name,
            state=state,
            payload=payload,
            eta=position if state is State.DELAYED else None,
            worker_id=str(owner) if state is State.LEASED else None,
            reason=why if is_dead else None,
            died_at=position if is_dead else None,
            crashes=crashes,
        )


def _place(state: State, after: str | None, start: int) -> dict[str, int]:
    """Return a place as arguments; without one, that of the start."""
    names = _ORDERS[state]
    values = [start] * len(names) if after is None else [int(part) for part in after.split(",")]
    return dict(zip(names, values, strict=True))
