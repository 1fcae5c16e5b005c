"""Looking into the tables and acting on them: one statement for each question and each step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ...common import q_name
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
from .._processes import host, is_alive
from .._store import new_delivery_ids
from .diagnosis import diagnose
from .membership import LONG_SILENCE_MS, POOLED_SILENCE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .broker import PostgresBroker

__all__ = ["PostgresInspection"]

#: The smallest and largest number of a column: before and after all others.
_FIRST, _LAST = -(2**63), 2**63 - 1
#: The states, by the number that the tables have for each.
_STATES = (State.READY, State.DELAYED, State.LEASED, State.DEAD)
#: For each state, what its messages are ordered by, which is what names a place among them.
_ORDERS: dict[State, tuple[str, ...]] = {
    State.READY: ("prio", "position", "seq"),
    State.DELAYED: ("position", "seq"),
    State.LEASED: ("seq",),
    State.DEAD: ("position", "seq"),
}
#: Seconds that a question about millions of messages may take.
TIMEOUT_S = 60.0


class PostgresInspection(StoreInspection):
    """Inspects the tables of a PostgreSQL broker."""

    broker: PostgresBroker

    def _now(self) -> int:
        [(now,)] = self._select("now")
        return int(now)

    def _queue_names(self) -> set[str]:
        stored = {name for (name,) in self._select("queue_names")}
        return stored | {q_name(name) for name in list(self.broker.queues)}

    def _infos(self, queue_names: Sequence[str], count_limit: int | None) -> list[QueueInfo]:
        infos = []
        for name in queue_names:
            [(*counts, is_paused, oldest_at)] = self._select("queue", queue=name, limit=count_limit)
            infos.append(QueueInfo(name, QueueCounts(*counts), is_paused, oldest_at))
        return infos

    def workers(self) -> list[WorkerInfo]:
        """Return the worker processes that are registered in the database."""
        infos = []
        for row in self._select("workers"):
            owner, where, pid, started, started_at, *rest = row
            has_lock, is_locked, silence_ms, beat_at, leased = rest
            if where == host():
                lives = is_alive(pid, started)
            elif has_lock:
                lives = is_locked and silence_ms < LONG_SILENCE_MS
            else:
                lives = silence_ms < POOLED_SILENCE_MS
            infos.append(
                WorkerInfo(
                    str(owner),
                    host=where.partition(" ")[0],
                    pid=pid,
                    started_at=started_at,
                    seen_at=beat_at,
                    is_alive=lives,
                    leased=leased,
                )
            )
        return infos

    def _key_of(self, lease: bytes) -> str:
        return lease.hex()

    def _recorders(self) -> list[tuple[str, str]]:
        return [(str(owner), name) for owner, name in self._select("recorders")]

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the server."""
        return diagnose(self.broker.database)

    def migrate_schema(self) -> tuple[int, int]:
        """Bring the tables to the version of this library; make them if there are none."""
        return self.broker.database.migrate()

    # -- reading

    def _select(self, name: str, **arguments: Any) -> list[Any]:
        return self.broker.database.run(
            lambda cursor: cursor.execute(self.broker.sql[name], arguments).fetchall(),
            in_transaction=False,
            timeout_s=TIMEOUT_S,
        )

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
            fields = {"seq": row[1], "prio": row[4], "position": row[5]}
            after = ",".join(str(fields[name]) for name in _ORDERS[state])
            entries.append(Entry(after, _info(row)))
        return Chunk(entries, entries[-1].after if len(entries) == count else None)

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        dids = [did for key in keys if (did := _did(key)) is not None]
        return [_info(row) for row in self._select("read_dead_keys", queue=queue_name, dids=dids)]

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message by its delivery id."""
        did = _did(key)
        rows = [] if did is None else self._select("read_one", queue=q_name(queue_name), did=did)
        return _info(rows[0]) if rows else None

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the tables hold under a message id, in any state."""
        matches = Matcher(Selection(message_id=message_id))
        found: list[MessageInfo] = []
        for name in ("read_any", "read_any_dead"):
            did = b""
            while rows := self._select(name, did=did, count=BATCH):
                found += filter(matches, map(_info, rows))
                did = rows[-1][0]
        return found

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        arguments = {"since": _FIRST if since is None else since, "until": until}
        [(count,)] = self._select("count_dead", queue=queue_name, **arguments)
        return int(count)

    # -- the log of what was done

    def note(self, entry: AuditEntry) -> None:
        """Add to the log."""
        self._change("note", **dataclasses.asdict(entry))
        self._change("forget_notes", size=AUDIT_SIZE)

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        return [AuditEntry(*row) for row in self._select("audit", count=limit)]

    # -- acting

    @property
    def _channel(self) -> str:
        return self.broker.channel

    def pause(self, queue_name: str) -> None:
        """Have workers take nothing more from a queue until `resume`."""
        self._change("pause", queue=q_name(queue_name))

    def resume(self, queue_name: str) -> None:
        """Undo `pause`."""
        self._change("resume", queue=q_name(queue_name), channel=self._channel)

    def _change(self, name: str, **arguments: Any) -> int:
        return self.broker.database.run(
            lambda cursor: cursor.execute(self.broker.sql[name], arguments).rowcount,
            in_transaction=False,
            timeout_s=TIMEOUT_S,
        )

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        renewed = [(info, payload) for info in letters if (payload := renew(info)) is not None]
        if not renewed:
            return 0
        [(count, _)] = self._select(
            "requeue_dead",
            queue=queue_name,
            channel=self._channel,
            new=[did for did, _ in zip(new_delivery_ids(), renewed, strict=False)],
            payloads=[payload for _, payload in renewed],
            **_deaths([info for info, _ in renewed]),
        )
        return int(count)

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        return self._change("delete_dead", **_deaths(letters))

    def _purge(self, queue_name: str, state: State) -> int:
        [(now, last)] = self._select("last_seq", queue=queue_name)
        arguments = {"queue": queue_name, "before": now, "last": last, "count": BATCH}
        purged = 0
        while moved := self._change(f"purge_{state.value}", **arguments):
            purged += moved
        return purged


def _place(state: State, after: str | None, start: int) -> dict[str, int]:
    """Return a place as arguments; without one, that of the start."""
    names = _ORDERS[state]
    values = [start] * len(names) if after is None else [int(part) for part in after.split(",")]
    return dict(zip(names, values, strict=True))


def _deaths(letters: Sequence[MessageInfo]) -> dict[str, Any]:
    """Return what names one death of each message."""
    return {
        "dids": [bytes.fromhex(info.key) for info in letters],
        "died": [info.died_at for info in letters],
    }


def _did(key: str) -> bytes | None:
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None


def _info(row: Sequence[Any]) -> MessageInfo:
    did, _, queue_name, number, _, position, owner, crashes, why, payload = row
    state = _STATES[number]
    is_dead = state is State.DEAD
    return MessageInfo(
        key=did.hex(),
        queue_name=queue_name,
        state=state,
        payload=payload,
        eta=position if state is State.DELAYED else None,
        worker_id=str(owner) if state is State.LEASED else None,
        reason=why if is_dead else None,
        died_at=position if is_dead else None,
        crashes=crashes,
    )
