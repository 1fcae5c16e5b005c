"""Reading messages out of the server, some at a time. Nothing here changes anything."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ...common import dq_name
from ...inspection import MessageInfo, Selection, State
from .._inspection import Chunk, Entry
from .delays import is_time
from .layout import PARKING
from .scanning import scan_hash, scored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...redis import LinkPool
    from .._inspection import Matcher
    from .layout import Layout, QueueKeys

__all__ = ["Reader", "key_of"]

#: Most commands sent in one go.
PIPELINE = 1000


class Reader:
    """Reads messages. May be used from any thread.

    Args:
        links: Connections.
        layout: The keys.
    """

    def __init__(self, links: LinkPool, layout: Layout) -> None:
        self._links = links
        self._layout = layout

    def call(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """Return the answers to commands, any number of them.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
            redis.ResponseError: If it refuses one of them: a key of ours is something else there.
        """
        answers: list[Any] = []
        with self._links.borrow() as link:
            for start in range(0, len(commands), PIPELINE):
                answers += link.call(commands[start : start + PIPELINE])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def workers(self) -> list[str]:
        """Return the names of all registered workers, those of 2.x included."""
        beating, ours = self.call(
            [(b"ZRANGE", self._layout.heartbeats, 0, -1), (b"HKEYS", self._layout.workers)]
        )
        return sorted({worker.decode() for worker in [*beating, *ours]} - {PARKING})

    # -- by state

    def read(
        self, state: State, queue_name: str, selection: Selection, after: str | None, count: int
    ) -> Chunk:
        """Return messages of one state from a place on."""
        if state is State.DEAD:
            return self.dead(queue_name, selection, after, count, newest_first=True)
        start = int(after or 0)
        readers = {
            State.READY: self._waiting,
            State.DELAYED: self._delayed,
            State.LEASED: self._leased,
        }
        infos, is_more = readers[state](queue_name, start, count)
        entries = [
            Entry(str(start + index + 1), info)
            for index, info in enumerate(infos)
            if info is not None
        ]
        return Chunk(entries, str(start + count) if is_more else None)

    def _waiting(self, name: str, start: int, count: int) -> tuple[list[MessageInfo | None], bool]:
        queue = self._layout.queue(name)
        [ids] = self.call([(b"LRANGE", queue.ids, start, start + count - 1)])
        some: list[tuple[bytes, dict[str, Any]]] = [(lease, {}) for lease in ids]
        return self._load(State.READY, name, queue, some), len(ids) == count

    def _leased(self, name: str, start: int, count: int) -> tuple[list[MessageInfo | None], bool]:
        held = self.held(name, self.workers())
        some = [(lease, {"worker_id": worker}) for worker, lease in held[start : start + count]]
        queue = self._layout.queue(name)
        return self._load(State.LEASED, name, queue, some), start + count < len(held)

    def held(self, queue_name: str, workers: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return who holds which id of a queue, or of a delay queue."""
        commands = [(b"SMEMBERS", self._layout.acks(worker, queue_name)) for worker in workers]
        answers = self.call(commands)
        return [
            (worker, lease)
            for worker, ids in zip(workers, answers, strict=True)
            for lease in sorted(ids)
        ]

    def _delayed(self, name: str, start: int, count: int) -> tuple[list[MessageInfo | None], bool]:
        """Return what is parked, the next first; then what came in and nobody has parked.

        The last are those that workers of 2.x hold in their memory.
        """
        queue = self._layout.queue(dq_name(name))
        parked, arrived = self.call([(b"ZCARD", queue.etas), (b"LLEN", queue.ids)])
        stop = start + count
        some: list[tuple[bytes, dict[str, Any]]] = []
        if start < parked:
            [found] = self.call([(b"ZRANGE", queue.etas, start, stop - 1, b"WITHSCORES")])
            some += [(lease, {"eta": eta}) for lease, eta in scored(found)]
        first, last = max(0, start - parked), stop - parked - 1
        if first <= last and first < arrived:
            [ids] = self.call([(b"LRANGE", queue.ids, first, last)])
            some += [(lease, {}) for lease in ids]
        if stop > parked + arrived:
            held = self.held(dq_name(name), self.workers())
            first = max(0, start - parked - arrived)
            some += [(lease, {}) for _, lease in held[first : stop - parked - arrived]]
        return self._load(State.DELAYED, name, queue, some), len(some) == count

    def _load(
        self,
        state: State,
        name: str,
        queue: QueueKeys,
        some: Sequence[tuple[bytes, dict[str, Any]]],
    ) -> list[MessageInfo | None]:
        """Return messages; None where there is no payload."""
        if not some:
            return []
        ids = [lease for lease, _ in some]
        payloads, crashes = self.call(
            [(b"HMGET", queue.payloads, *ids), (b"HMGET", queue.crashes, *ids)]
        )
        return [
            None if payload is None else _info(state, name, lease, payload, count, fields)
            for (lease, fields), payload, count in zip(some, payloads, crashes, strict=True)
        ]

    # -- dead letters

    def dead(
        self,
        queue_name: str,
        selection: Selection,
        after: str | None,
        count: int,
        *,
        newest_first: bool,
    ) -> Chunk:
        """Return dead letters from a place on."""
        low = "-inf" if selection.since is None else str(selection.since)
        high = "+inf" if selection.until is None else str(selection.until)
        place = None
        if after is not None:
            died_at, _, key = after.partition(":")
            place = (int(died_at), _lease_of(key))
            low, high = (low, died_at) if newest_first else (died_at, high)
        span: tuple[object, ...] = (low, high, b"BYSCORE")
        if newest_first:
            span = (high, low, b"BYSCORE", b"REV")
        found = self._beyond(self._layout.queue(queue_name).dead, span, place, count, newest_first)
        entries = [
            Entry(f"{info.died_at}:{info.key}", info) for info in self._letters(queue_name, found)
        ]
        if len(found) < count:
            return Chunk(entries, None)
        lease, died_at_last = found[-1]
        return Chunk(entries, f"{died_at_last}:{key_of(lease)}")

    def _beyond(
        self,
        key: bytes,
        span: tuple[object, ...],
        place: tuple[int, bytes] | None,
        count: int,
        newest_first: bool,
    ) -> list[tuple[bytes, int]]:
        """Return the next so many of a span that are beyond a place in it.

        What died in one moment is ordered by id, so that a place can be in the middle of it.
        """
        beyond: list[tuple[bytes, int]] = []
        offset = 0
        while len(beyond) < count:
            command = (b"ZRANGE", key, *span, b"LIMIT", offset, count, b"WITHSCORES")
            [answer] = self.call([command])
            found = scored(answer)
            beyond += [
                (lease, at)
                for lease, at in found
                if place is None or ((at, lease) < place if newest_first else (at, lease) > place)
            ]
            if len(found) < count:
                break
            offset += count
        return beyond[:count]

    def _letters(
        self, queue_name: str, found: Sequence[tuple[bytes, int]]
    ) -> Iterator[MessageInfo]:
        if not found:
            return
        queue = self._layout.queue(queue_name)
        ids = [lease for lease, _ in found]
        payloads, reasons = self.call(
            [(b"HMGET", queue.dead_payloads, *ids), (b"HMGET", queue.dead_reasons, *ids)]
        )
        for (lease, died_at), payload, reason in zip(found, payloads, reasons, strict=True):
            if payload is not None:
                yield MessageInfo(
                    key=key_of(lease),
                    queue_name=queue_name,
                    state=State.DEAD,
                    payload=payload,
                    reason=(reason or b"rejected").decode("utf-8", "replace"),
                    died_at=died_at,
                )

    def look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        """Return those of some dead letters that are there."""
        dead = self._layout.queue(queue_name).dead
        ids = [_lease_of(key) for key in keys]
        scores = self.call([(b"ZSCORE", dead, lease) for lease in ids])
        found = [
            (lease, int(float(score)))
            for lease, score in zip(ids, scores, strict=True)
            if score is not None
        ]
        return list(self._letters(queue_name, sorted(found, key=lambda each: each[::-1])))

    def get(self, name: str, key: str) -> MessageInfo | None:
        """Return one message of a queue, in whatever state."""
        lease = _lease_of(key)
        queue, delayed = self._layout.queue(name), self._layout.queue(dq_name(name))
        is_stored, is_delayed, eta = self.call(
            [
                (b"HEXISTS", queue.payloads, lease),
                (b"HEXISTS", delayed.payloads, lease),
                (b"ZSCORE", delayed.etas, lease),
            ]
        )
        some: list[MessageInfo | None] = []
        if is_stored:
            workers = self.workers()
            sets = [self._layout.acks(worker, name) for worker in workers]
            held = self.call([(b"SISMEMBER", acks, lease) for acks in sets])
            holders = [worker for worker, is_held in zip(workers, held, strict=True) if is_held]
            state = State.LEASED if holders else State.READY
            fields: dict[str, Any] = {"worker_id": holders[0]} if holders else {}
            some = self._load(state, name, queue, [(lease, fields)])
        elif is_delayed:
            fields = {} if eta is None else {"eta": int(float(eta))}
            some = self._load(State.DELAYED, name, delayed, [(lease, fields)])
        return next(filter(None, some or self.look_up(name, [key])), None)

    # -- searching

    def search(self, name: str, matches: Matcher) -> Iterator[MessageInfo]:
        """Yield the messages of a queue that match, in any state."""
        queue, delayed = self._layout.queue(name), self._layout.queue(dq_name(name))
        leases = self._search_hash(queue.payloads, State.READY, name, matches)
        holders: dict[bytes, str] = {}
        if leases:
            holders = {lease: worker for worker, lease in self.held(name, self.workers())}
        for lease in leases:
            held_by = holders.get(lease)
            fields: dict[str, Any] = {} if held_by is None else {"worker_id": held_by}
            state = State.READY if held_by is None else State.LEASED
            yield from filter(None, self._load(state, name, queue, [(lease, fields)]))
        for lease in self._search_hash(delayed.payloads, State.DELAYED, name, matches):
            [eta] = self.call([(b"ZSCORE", delayed.etas, lease)])
            fields = {} if eta is None else {"eta": int(float(eta))}
            yield from filter(None, self._load(State.DELAYED, name, delayed, [(lease, fields)]))
        dead = self._search_hash(queue.dead_payloads, State.DEAD, name, matches)
        yield from self.look_up(name, [key_of(lease) for lease in dead])

    def _search_hash(
        self, key: bytes, state: State, queue_name: str, matches: Matcher
    ) -> list[bytes]:
        """Return the ids in a hash of payloads whose messages match."""
        with self._links.borrow() as link:
            found = {
                lease
                for lease, payload in scan_hash(link, key)
                if matches(MessageInfo(key_of(lease), queue_name, state, payload))
            }
        return sorted(found)


def key_of(lease: bytes) -> str:
    """Return the name by which callers know an id."""
    return lease.decode("utf-8", "surrogateescape")


def _lease_of(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _info(
    state: State,
    queue_name: str,
    lease: bytes,
    payload: bytes,
    crashes: bytes | None,
    fields: dict[str, Any],
) -> MessageInfo:
    info = MessageInfo(
        key=key_of(lease),
        queue_name=queue_name,
        state=state,
        payload=payload,
        crashes=int(crashes or 0),
        **fields,
    )
    if state is not State.DELAYED or info.eta is not None:
        return info
    message = info.message
    eta = None if message is None else message.options.get("eta")
    return dataclasses.replace(info, eta=int(eta) if is_time(eta) else None)
