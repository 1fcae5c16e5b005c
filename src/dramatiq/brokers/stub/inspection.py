"""Looking into the stub broker and acting on it. Everything is in memory and read as a whole."""

from __future__ import annotations

import os
import socket
from itertools import count as counter
from typing import TYPE_CHECKING, Any

from ...common import current_millis, dq_name, iter_queue, q_name
from ...errors import DecodeError
from ...inspection import (
    AuditEntry,
    MessageInfo,
    QueueCounts,
    QueueInfo,
    Selection,
    State,
    WorkerInfo,
)
from ...message import Message
from .._inspection import Chunk, Entry, StoreInspection, renew
from .consumer import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...broker import MessageProxy
    from .._inspection import Matcher
    from .broker import StubBroker

#: Numbers dead letters as they are first looked at.
_numbers = counter(1)


class StubInspection(StoreInspection):
    """Inspects a stub broker.

    A delayed message that a worker holds until it is due counts as delayed, but cannot be purged.
    """

    broker: StubBroker

    def _now(self) -> int:
        return current_millis()

    def _queue_names(self) -> set[str]:
        return {q_name(name) for name in [*self.broker.queues, *self.broker.paused_queues]}

    def _infos(self, queue_names: Sequence[str], _count_limit: int | None) -> list[QueueInfo]:
        return [self._info(name) for name in queue_names]

    def _info(self, name: str) -> QueueInfo:
        waiting = self._waiting(name)
        counts = QueueCounts(
            ready=len(waiting),
            delayed=len(self._waiting(dq_name(name))) + len(self._held(dq_name(name))),
            leased=len(self._held(name)),
            dead=len(self._dead_letters(name)),
        )
        oldest = _decode(waiting[0]) if waiting else None
        return QueueInfo(
            name,
            counts,
            is_paused=name in self.broker.paused_queues,
            oldest_at=None if oldest is None else oldest.message_timestamp,
        )

    # -- reading

    def _waiting(self, name: str) -> list[bytes]:
        queue = self.broker.queues.get(name)
        if queue is None:
            return []
        with queue.mutex:
            return list(queue.queue)

    def _held(self, name: str) -> list[bytes]:
        consumers = [each for each in list(self.broker.open_consumers) if each.queue_name == name]
        return [data for each in consumers for data in each.outstanding()]

    def _dead_letters(self, name: str) -> list[MessageProxy]:
        """Return the dead letters of a queue and its delay queue, each with a number."""
        letters: list[MessageProxy] = []
        with self.broker.dead_letters_lock:
            for key in (name, dq_name(name)):
                letters += self.broker.dead_letters_by_queue.get(key, ())
            for letter in letters:
                vars(letter).setdefault("_number", next(_numbers))
        return sorted(letters, key=_number)

    def _read(
        self, state: State, queue_name: str, _selection: Selection, after: str | None, count: int
    ) -> Chunk:
        start = int(after or 0)
        infos = self._all(state, queue_name)
        stop = start + count
        entries = [Entry(str(start + i + 1), info) for i, info in enumerate(infos[start:stop])]
        return Chunk(entries, str(stop) if stop < len(infos) else None)

    def _all(self, state: State, name: str) -> list[MessageInfo]:
        if state is State.READY:
            return [_info(data, name, state) for data in self._waiting(name)]
        if state is State.LEASED:
            return [_info(data, name, state) for data in self._held(name)]
        if state is State.DEAD:
            return [_dead_info(letter, name) for letter in reversed(self._dead_letters(name))]
        held = [_info(data, name, state) for data in self._held(dq_name(name))]
        infos = held + [_info(data, name, state) for data in self._waiting(dq_name(name))]
        return sorted(infos, key=lambda info: info.eta or 0)

    def _read_dead(
        self, queue_name: str, _selection: Selection, after: str | None, count: int
    ) -> Chunk:
        infos = [_dead_info(letter, queue_name) for letter in self._dead_letters(queue_name)]
        left = [info for info in infos if int(info.key) > int(after or 0)]
        entries = [Entry(info.key, info) for info in left[:count]]
        return Chunk(entries, entries[-1].after if len(left) > count else None)

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message; its key changes with its state."""
        name = q_name(queue_name)
        found = (info for state in State for info in self._all(state, name) if info.key == key)
        return next(found, None)

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        infos = self._all(State.DEAD, queue_name)
        return [info for info in reversed(infos) if info.key in keys]

    def _search(self, queue_name: str, matches: Matcher) -> Iterator[MessageInfo]:
        for state in State:
            yield from filter(matches, self._all(state, queue_name))

    def _count_dead(self, queue_name: str, since: int | None, until: int) -> int:
        deaths = [_died_at(letter) for letter in self._dead_letters(queue_name)]
        return sum((since or 0) <= died_at <= until for died_at in deaths)

    def workers(self) -> list[WorkerInfo]:
        """Return this process, if it consumes anything."""
        consumers = list(self.broker.open_consumers)
        if not consumers:
            return []
        held = sum(len(each.outstanding()) for each in consumers)
        return [
            WorkerInfo(
                str(os.getpid()),
                host=socket.gethostname(),
                pid=os.getpid(),
                leased=held,
            )
        ]

    # -- acting

    def note(self, entry: AuditEntry) -> None:
        """Add to the log, which lives as long as the broker."""
        self.broker.audit_log.appendleft(entry)

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        return list(self.broker.audit_log.copy())[:limit]

    def pause(self, queue_name: str) -> None:
        """Have consumers of this broker take nothing more from a queue."""
        self.broker.paused_queues.add(q_name(queue_name))

    def resume(self, queue_name: str) -> None:
        """Undo `pause`."""
        self.broker.paused_queues.discard(q_name(queue_name))
        for consumer in list(self.broker.open_consumers):
            consumer.notice_resume()

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        moved = 0
        queue = self.broker.find_queue(queue_name)
        for info in letters:
            payload = renew(info)
            if payload is not None and self._take_out(queue_name, info):
                queue.put(payload)
                moved += 1
        return moved

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        return sum(self._take_out(queue_name, info) for info in letters)

    def _take_out(self, name: str, info: MessageInfo) -> bool:
        """Remove a dead letter if it is there."""
        with self.broker.dead_letters_lock:
            for key in (name, dq_name(name)):
                letters = self.broker.dead_letters_by_queue.get(key, [])
                for index, letter in enumerate(letters):
                    if vars(letter).get("_number") == int(info.key):
                        del letters[index]
                        return True
        return False

    def _purge(self, queue_name: str, state: State) -> int:
        if state is State.DEAD:
            return self._delete(queue_name, self._all(state, queue_name))
        name = queue_name if state is State.READY else dq_name(queue_name)
        queue = self.broker.queues.get(name)
        if queue is None:
            return 0
        purged = 0
        for _ in iter_queue(queue):
            queue.task_done()
            purged += 1
        return purged


def _number(letter: MessageProxy) -> int:
    number: int = vars(letter)["_number"]
    return number


def _died_at(letter: MessageProxy) -> int:
    died_at: int = vars(letter).get("_died_at", letter.message_timestamp)
    return died_at


def _dead_info(letter: MessageProxy, queue_name: str) -> MessageInfo:
    is_raw = letter.actor_name == UNDECODABLE and type(letter.args[0]) is bytes
    return MessageInfo(
        key=str(_number(letter)),
        queue_name=queue_name,
        state=State.DEAD,
        payload=letter.args[0] if is_raw else letter._message.encode(),
        reason=vars(letter).get("_reason", "rejected"),
        died_at=_died_at(letter),
    )


def _info(data: bytes, queue_name: str, state: State) -> MessageInfo:
    message = _decode(data) if state is State.DELAYED else None
    return MessageInfo(
        # One object for as long as it is stored.
        key=f"{id(data):x}",
        queue_name=queue_name,
        state=state,
        payload=data,
        eta=None if message is None else message.options.get("eta"),
        worker_id=str(os.getpid()) if state is State.LEASED else None,
    )


def _decode(data: bytes) -> Message[Any] | None:
    try:
        return Message.decode(data)
    except DecodeError:
        return None
