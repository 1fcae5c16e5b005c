"""Looking into the server and acting on it: one script for each step that moves messages."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import dq_name, q_name
from ...errors import DecodeError
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
from .._inspection import Chunk, Matcher, StoreInspection, renew
from .._store import decode
from .diagnosis import diagnose
from .layout import PARKING, PAYLOADS_SUFFIX
from .reading import Reader
from .scanning import flat, scan_keys, scored
from .scripts import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .broker import RedisBroker

__all__ = ["RedisInspection"]

#: Seconds for which a bounded question goes by the queues that were found last.
NAMES_KEPT_S = 15.0
#: Most bytes of payloads in one call, so that it takes no longer than some milliseconds.
BATCH_BYTES = 4 * 1024 * 1024


class RedisInspection(StoreInspection):
    """Inspects a namespace of a Redis server.

    Listing queues, finding messages and, if there are some of 2.x, listing workers walk through
    all keys of the database, some at a time. Workers of 2.x are told by their heartbeats, which
    every process leaves behind that has sent anything; they take no notice of a pause.
    """

    broker: RedisBroker

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(broker)
        self._layout = broker.layout
        self._reader = Reader(broker.links, broker.layout)
        self._scanned: set[str] = set()
        self._scan_again_at = 0.0

    def _now(self) -> int:
        [now] = self._reader.call([(b"TIME",)])
        return _millis(now)

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the server."""
        return diagnose(self.broker.links)

    # -- queues

    def _queue_names(self) -> set[str]:
        """Return those that are declared, consumed, paused, or hold anything."""
        return self._scan_names() | self._noted_names()

    def _recent_queue_names(self) -> set[str]:
        """Return the same, except that it may be some seconds since what they hold was seen."""
        now = time.monotonic()
        if now >= self._scan_again_at:
            self._scan_again_at = now + NAMES_KEPT_S
            self._scanned = self._scan_names()
        return self._scanned | self._noted_names()

    def _scan_names(self) -> set[str]:
        """Walk through all keys of the database: results and history may have many."""
        layout = self._layout
        prefix = layout.heartbeats.partition(b"__heartbeats__")[0]
        with self.broker.links.borrow() as link:
            keys = scan_keys(link, prefix, PAYLOADS_SUFFIX.encode())
        return {name for key in keys if (name := layout.queue_of(key)) is not None}

    def _noted_names(self) -> set[str]:
        layout = self._layout
        paused, ours = self._reader.call([(b"SMEMBERS", layout.paused), (b"HVALS", layout.workers)])
        names = {q_name(name) for name in self.broker.get_declared_queues()}
        names.update(name.decode() for name in paused)
        for where in map(_read_json, ours):
            names.update(q_name(str(name)) for name in where.get("queues", ()))
        return names

    def _infos(self, queue_names: Sequence[str], _count_limit: int | None) -> list[QueueInfo]:
        commands: list[tuple[object, ...]] = []
        for name in queue_names:
            queue, delayed = self._layout.queue(name), self._layout.queue(dq_name(name))
            commands += [
                (b"LLEN", queue.ids),
                (b"HLEN", queue.payloads),
                (b"HLEN", delayed.payloads),
                (b"ZCARD", queue.dead),
                (b"SISMEMBER", self._layout.paused, name),
                (b"LINDEX", queue.ids, 0),
            ]
        answers = iter(self._reader.call(commands))
        rows = list(zip(*[answers] * 6, strict=True))
        oldest = self._oldest({name: row[5] for name, row in zip(queue_names, rows, strict=True)})
        return [
            QueueInfo(
                name,
                QueueCounts(ready, waiting, max(0, stored - ready), dead),
                is_paused=bool(is_paused),
                oldest_at=oldest.get(name),
            )
            for name, (ready, stored, waiting, dead, is_paused, _) in zip(
                queue_names, rows, strict=True
            )
        ]

    def _oldest(self, heads: dict[str, bytes | None]) -> dict[str, int]:
        """Return when the messages were sent that are next in turn, by queue."""
        waiting = {name: head for name, head in heads.items() if head is not None}
        payloads = self._reader.call(
            [(b"HGET", self._layout.queue(name).payloads, head) for name, head in waiting.items()]
        )
        oldest = {}
        for name, payload in zip(waiting, payloads, strict=True):
            with suppress(DecodeError, TypeError, ValueError):
                oldest[name] = int(decode(payload).message_timestamp)
        return oldest

    # -- reading

    def _read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        return self._reader.read(state, queue_name, selection, after, count)

    def _read_dead(
        self, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        return self._reader.dead(queue_name, selection, after, count, newest_first=False)

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        return self._reader.look_up(queue_name, keys)

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message."""
        return self._reader.get(q_name(queue_name), key)

    def _search(self, queue_name: str, matches: Matcher) -> Iterator[MessageInfo]:
        return self._reader.search(queue_name, matches)

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        dead = self._layout.queue(queue_name).dead
        low = b"-inf" if since is None else since
        return int(self._reader.call([(b"ZCOUNT", dead, low, until)])[0])

    # -- workers

    def workers(self) -> list[WorkerInfo]:
        """Return the workers that are registered, and those of 2.x with their heartbeats."""
        layout = self._layout
        now, beating, registered = self._reader.call(
            [
                (b"TIME",),
                (b"ZRANGE", layout.heartbeats, 0, -1, b"WITHSCORES"),
                (b"HGETALL", layout.workers),
            ]
        )
        fields = flat(registered)
        where = {
            worker.decode(): _read_json(said)
            for worker, said in zip(fields[::2], fields[1::2], strict=True)
        }
        seen = {worker.decode(): at for worker, at in scored(beating)}
        names = sorted((where.keys() | seen.keys()) - {PARKING})
        held = self._held_by(names, where)
        return [
            self._worker(name, where.get(name), seen.get(name), held[name], _millis(now))
            for name in names
        ]

    def _worker(
        self, name: str, where: dict[str, Any] | None, seen: int | None, held: int, now: int
    ) -> WorkerInfo:
        timeout = self.broker.heartbeat_timeout if where is None else self.broker.own_timeout
        said = where or {}
        return WorkerInfo(
            name,
            # Of what is there to tell machines apart, the name that people know.
            host=str(said["host"]).partition(" ")[0] if "host" in said else None,
            pid=said.get("pid"),
            seen_at=seen,
            is_alive=seen is not None and seen > now - timeout,
            leased=held,
        )

    def _held_by(self, workers: Sequence[str], where: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Return how many messages each worker holds, delayed ones included."""
        queues = {name: said.get("queues", ()) for name, said in where.items()}
        if any(name not in queues for name in workers):
            # Workers of 2.x do not say which queues they consume.
            found = self._queue_names()
            every = [name for each in found for name in (each, dq_name(each))]
            queues = {name: queues.get(name, every) for name in workers}
        pairs = [(name, str(queue)) for name in workers for queue in queues[name]]
        counts = self._reader.call([(b"SCARD", self._layout.acks(*pair)) for pair in pairs])
        held = dict.fromkeys(workers, 0)
        for (name, _), count in zip(pairs, counts, strict=True):
            held[name] += count
        return held

    def _recorders(self) -> list[tuple[str, str]]:
        [registered] = self._reader.call([(b"HGETALL", self._layout.workers)])
        fields = flat(registered)
        return [
            (worker.decode(), str(name))
            for worker, said in zip(fields[::2], fields[1::2], strict=True)
            for name in _read_json(said).get("recorders", ())
        ]

    # -- the log of what was done

    def note(self, entry: AuditEntry) -> None:
        """Add to the log."""
        key = self._layout.audit
        said = json.dumps(dataclasses.asdict(entry))
        self._reader.call([(b"LPUSH", key, said), (b"LTRIM", key, 0, AUDIT_SIZE - 1)])

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        [found] = self._reader.call([(b"LRANGE", self._layout.audit, 0, limit - 1)])
        return [AuditEntry(**_read_json(said)) for said in found]

    # -- acting

    def pause(self, queue_name: str) -> None:
        """Have our workers take nothing more from a queue until `resume`."""
        self._reader.call([(b"SADD", self._layout.paused, q_name(queue_name))])

    def resume(self, queue_name: str) -> None:
        """Undo `pause`; workers notice within half a second."""
        self._reader.call([(b"SREM", self._layout.paused, q_name(queue_name))])

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        queue = self._layout.queue(queue_name)
        keys = (
            *(queue.dead, queue.dead_payloads, queue.dead_reasons),
            *(queue.ids, queue.payloads, queue.crashes),
        )
        moved = 0
        arguments: list[object] = []
        size = 0
        for info in letters:
            # Workers of 2.x acknowledge by this option.
            payload = renew(info, redis_message_id=info.key)
            if payload is None:
                continue
            if arguments and size + len(payload) > BATCH_BYTES:
                moved += self._run("requeue_dead", keys, arguments)
                arguments, size = [], 0
            arguments += (*_death(info), payload)
            size += len(payload)
        return moved + (self._run("requeue_dead", keys, arguments) if arguments else 0)

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        queue = self._layout.queue(queue_name)
        keys = (queue.dead, queue.dead_payloads, queue.dead_reasons)
        arguments = [part for info in letters for part in _death(info)]
        return self._run("delete_dead", keys, arguments) if arguments else 0

    def _run(self, name: str, keys: tuple[bytes, ...], arguments: Sequence[object]) -> int:
        return int(self.broker.links.run([(load(name), keys, tuple(arguments))])[0])

    def _purge(self, queue_name: str, state: State) -> int:
        queue, delayed = self._layout.queue(queue_name), self._layout.queue(dq_name(queue_name))
        parked = self._layout.acks(PARKING, dq_name(queue_name))
        if state is State.READY:
            [there] = self._reader.call([(b"LLEN", queue.ids)])
            return self._repeat(
                "purge_ready", (queue.ids, queue.payloads, queue.crashes), (), there
            )
        if state is State.DELAYED:
            there = sum(self._reader.call([(b"SCARD", parked), (b"LLEN", delayed.ids)]))
            keys = (parked, delayed.etas, delayed.ids, delayed.payloads)
            return self._repeat("purge_delayed", keys, (), there)
        [there] = self._reader.call([(b"ZCARD", queue.dead)])
        dead = (queue.dead, queue.dead_payloads, queue.dead_reasons)
        return self._repeat("expire_dead", dead, (0,), there)

    def _repeat(
        self, name: str, keys: tuple[bytes, ...], arguments: tuple[object, ...], there: int
    ) -> int:
        """Run a script until it has dropped as many as were there."""
        dropped = 0
        while dropped < there:
            moved = self._run(name, keys, (*arguments, min(BATCH, there - dropped)))
            if not moved:
                break
            dropped += moved
        return dropped


def _death(info: MessageInfo) -> tuple[bytes, int]:
    """Return what names one death of a message."""
    return info.key.encode("utf-8", "surrogateescape"), info.died_at or 0


def _millis(time: Sequence[bytes]) -> int:
    """Return the answer to TIME in milliseconds."""
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) // 1000


def _read_json(text: bytes) -> dict[str, Any]:
    """Return an object of JSON; nothing for what is none."""
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}
