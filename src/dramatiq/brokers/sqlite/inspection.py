"""Looking into the file and acting on it: one statement for each question and each step."""

from __future__ import annotations

import dataclasses
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import current_millis, q_name
from ...inspection import (
    AUDIT_SIZE,
    BATCH,
    AuditEntry,
    Finding,
    MessageInfo,
    QueueCounts,
    QueueInfo,
    Selection,
    State,
    WorkerInfo,
)
from .._inspection import Chunk, Entry, Matcher, StoreInspection, renew
from .diagnosis import diagnose
from .leases import lock_file_of
from .statements import json_list, load, schema, text_or_blob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .broker import SQLiteBroker

__all__ = ["SQLiteInspection"]

#: SQLite's smallest and largest integer: before and after all others.
_FIRST, _LAST = -(2**63), 2**63 - 1
#: The states, by the number that the file has for each.
_STATES = (State.READY, State.DELAYED, State.LEASED, State.DEAD)
#: For each state, what its messages are ordered by, which is what names a place among them.
_ORDERS: dict[State, tuple[str, ...]] = {
    State.READY: ("prio", "position", "seq"),
    State.DELAYED: ("position", "seq"),
    State.LEASED: ("seq",),
    State.DEAD: ("position", "seq"),
}


class SQLiteInspection(StoreInspection):
    """Inspects the file of an SQLite broker."""

    broker: SQLiteBroker

    def _now(self) -> int:
        return current_millis()

    def _queue_names(self) -> set[str]:
        stored = {name for (name,) in self._select("queue_names")}
        return stored | {q_name(name) for name in list(self.broker.queues)}

    def _infos(self, queue_names: Sequence[str], count_limit: int | None) -> list[QueueInfo]:
        limit = -1 if count_limit is None else count_limit
        infos = []
        for name in queue_names:
            [(*counts, is_paused, oldest_at)] = self._select("queue", queue=name, limit=limit)
            infos.append(QueueInfo(name, QueueCounts(*counts), bool(is_paused), oldest_at))
        return infos

    def workers(self) -> list[WorkerInfo]:
        """Return the worker processes that are registered in the file."""
        lock_file = lock_file_of(self.broker.database.path)
        return [
            WorkerInfo(
                str(owner),
                host=socket.gethostname(),
                pid=pid,
                started_at=started_at,
                is_alive=lock_file.is_alive(slot),
                leased=leased,
            )
            for owner, slot, pid, started_at, leased in self._select("workers")
        ]

    def _recorders(self) -> list[tuple[str, str]]:
        return [(str(worker), name) for worker, name in self._select("recorders_by_worker")]

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the file."""
        return diagnose(self.broker.database)

    # -- reading

    def _select(self, name: str, **arguments: Any) -> list[Any]:
        rows: list[Any] = self.broker.database.read(
            lambda connection: connection.execute(load(name), arguments).fetchall()
        )
        return rows

    def _read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        arguments: dict[str, Any] = {"queue": queue_name, "count": count}
        start = _FIRST
        if state is State.DEAD:
            start = _LAST
            arguments["since"] = _FIRST if selection.since is None else selection.since
        arguments |= _place(state, after, start)
        return self._chunk(state, self._select(f"read_{state.value}", **arguments), count)

    def _read_dead(
        self, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        if after is None and selection.since is not None:
            after = f"{selection.since},{_FIRST}"
        rows = self._select(
            "read_dead_oldest",
            queue=queue_name,
            count=count,
            until=_LAST if selection.until is None else selection.until,
            **_place(State.DEAD, after, _FIRST),
        )
        return self._chunk(State.DEAD, rows, count)

    def _chunk(self, state: State, rows: list[Any], count: int) -> Chunk:
        entries = []
        for row in rows:
            fields = {"seq": row[0], "prio": row[3], "position": row[4]}
            after = ",".join(str(fields[name]) for name in _ORDERS[state])
            entries.append(Entry(after, _info(row)))
        return Chunk(entries, entries[-1].after if len(entries) == count else None)

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        seqs = []
        for key in keys:
            with suppress(ValueError):
                seqs.append(int(key))
        rows = self._select("read_dead_keys", queue=queue_name, seqs=json_list(seqs))
        return [_info(row) for row in rows]

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message by the number of its row."""
        try:
            rows = self._select("read_one", queue=q_name(queue_name), seq=int(key))
        except (ValueError, OverflowError):
            return None
        return _info(rows[0]) if rows else None

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the file holds under a message id, in any state."""
        matches = Matcher(Selection(message_id=message_id))
        found: list[MessageInfo] = []
        seq = _FIRST
        while rows := self._select("read_any", seq=seq, count=BATCH):
            found += filter(matches, map(_info, rows))
            seq = rows[-1][0]
        return found

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        arguments = {"since": _FIRST if since is None else since, "until": until}
        [(count,)] = self._select("count_dead", queue=queue_name, **arguments)
        return int(count)

    # -- the log of what was done

    def note(self, entry: AuditEntry) -> None:
        """Add to the log."""
        self._ensure_audit()
        self._change("note", [dataclasses.asdict(entry)])
        self._change("forget_notes", [{"size": AUDIT_SIZE}], frees_space=True)

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        self._ensure_audit()
        return [AuditEntry(*row) for row in self._select("audit", count=limit)]

    def _ensure_audit(self) -> None:
        # Not with the broker: most files are never acted on through a dashboard.
        self.broker.database.ensure_schema("audit-1", schema("schema_audit"))

    # -- acting

    def pause(self, queue_name: str) -> None:
        """Have workers take nothing more from a queue until `resume`."""
        self._change("pause", [{"queue": q_name(queue_name)}])

    def resume(self, queue_name: str) -> None:
        """Undo `pause`."""
        self._change("resume", [{"queue": q_name(queue_name)}])

    def _change(self, name: str, arguments: Sequence[dict[str, Any]], **options: Any) -> int:
        changed: int = self.broker.database.write(
            lambda connection: connection.executemany(load(name), arguments).rowcount, **options
        )
        return changed

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        now = current_millis()
        arguments = [
            {**_death(info), "now": now, "payload": text_or_blob(payload)}
            for info in letters
            if (payload := renew(info)) is not None
        ]
        return self._change("requeue_dead", arguments) if arguments else 0

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        return self._change("delete_dead", [_death(info) for info in letters], frees_space=True)

    def _purge(self, queue_name: str, state: State) -> int:
        [(last,)] = self._select("last_seq")
        arguments = {"queue": queue_name, "count": BATCH, "last": last, "before": self._now()}
        purged = 0
        while moved := self._change(f"purge_{state.value}", [arguments], frees_space=True):
            purged += moved
        return purged


def _place(state: State, after: str | None, start: int) -> dict[str, int]:
    """Return a place as arguments; without one, that of the start."""
    names = _ORDERS[state]
    values = [start] * len(names) if after is None else [int(part) for part in after.split(",")]
    return dict(zip(names, values, strict=True))


def _death(info: MessageInfo) -> dict[str, Any]:
    """Return what names one death of a message."""
    return {"seq": int(info.key), "died_at": info.died_at}


def _info(row: Sequence[Any]) -> MessageInfo:
    seq, queue_name, number, _, position, owner, crashes, why, payload = row
    state = _STATES[number]
    is_dead = state is State.DEAD
    return MessageInfo(
        key=str(seq),
        queue_name=queue_name,
        state=state,
        payload=payload,
        eta=position if state is State.DELAYED else None,
        worker_id=str(owner) if state is State.LEASED else None,
        reason=why if is_dead else None,
        died_at=position if is_dead else None,
        crashes=crashes,
    )
