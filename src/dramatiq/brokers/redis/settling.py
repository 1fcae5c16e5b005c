"""Turning settlements into script calls, and their answers into who still held what.

Pure: no connection, no clock.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ...delivery import Outcome
from .._store import printable
from .scripts import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...delivery import Envelope, Settlement
    from ...redis.link import Call
    from .layout import Layout

__all__ = ["MOVED", "Settling", "keeping", "stored"]

#: What scripts answer for each message: it was not held, it was and is settled, it is gone.
LOST, MOVED, GONE = 0, 1, 2
#: Most messages acked by one call.
BATCH = 1000


def stored(envelopes: Sequence[Envelope], layout: Layout) -> tuple[list[bytes], list[object]]:
    """Return the keys and the arguments for the Lua function ``store``."""
    by_queue: defaultdict[str, list[Envelope]] = defaultdict(list)
    for envelope in envelopes:
        by_queue[envelope.message.queue_name].append(envelope)
    keys: list[bytes] = []
    arguments: list[object] = []
    for queue_name, those in by_queue.items():
        queue = layout.queue(queue_name)
        keys += (queue.ids, queue.payloads)
        arguments.append(len(those))
        for envelope in those:
            arguments += (envelope.delivery_id, envelope.payload)
    return keys, arguments


def keeping(settlements: Sequence[Settlement], acks: bytes) -> list[Call]:
    """Return what stores results, which is to be done before anything is settled."""
    keys: list[bytes] = [acks]
    arguments: list[object] = []
    for each in settlements:
        for _, write in each.operations:
            keys.append(write.key)
            arguments += [each.message._lease, write.value, write.ttl]
    return [(load("keep"), tuple(keys), tuple(arguments))] if arguments else []


class Settling:
    """The calls that carry out some settlements of one queue.

    Those without follow-ups go together, one call per outcome; the others each have their own.

    Args:
        settlements: What to carry out.
        layout: The keys.
        acks: The key of the worker's ack set.
        queue_name: The queue.

    Attributes:
        calls: The calls, in order.
    """

    def __init__(
        self, settlements: Iterable[Settlement], layout: Layout, acks: bytes, queue_name: str
    ) -> None:
        self.calls: list[Call] = []
        self._layout = layout
        self._acks = acks
        self._queue = layout.queue(queue_name)
        #: For each call, the ids it settles.
        self._ids: list[list[bytes]] = []
        acked: list[bytes] = []
        requeued: list[bytes] = []
        settlements = list(settlements)
        for call in keeping(settlements, acks):
            self.calls.append(call)
            self._ids.append([])
        for each in settlements:
            lease = each.message._lease
            if each.outcome is Outcome.NACK:
                self._nack(each)
            elif each.outcome is Outcome.REQUEUE:
                requeued.append(lease)
            elif each.envelopes:
                self._follow(each)
            else:
                acked.append(lease)
        queue = self._queue
        if acked:
            keys = (acks, queue.payloads, queue.crashes)
            for start in range(0, len(acked), BATCH):
                some = acked[start : start + BATCH]
                self._add("ack", keys, some, tuple(some))
        if requeued:
            requeued.reverse()  # pushed to the front one by one
            keys = (acks, queue.ids, queue.payloads)
            self._add("requeue", keys, requeued, ("LPUSH", *requeued))

    def states(self, answers: Sequence[Any]) -> dict[bytes, int]:
        """Return for each id what its script answered."""
        states: dict[bytes, int] = {}
        for ids, answer in zip(self._ids, answers, strict=True):
            if isinstance(answer, list):
                states.update(zip(ids, answer, strict=True))
            else:
                # A single one, or all of them alike.
                states.update(dict.fromkeys(ids, answer if len(ids) == 1 else MOVED))
        return states

    def _add(
        self, name: str, keys: tuple[bytes, ...], ids: list[bytes], arguments: tuple[object, ...]
    ) -> None:
        self.calls.append((load(name), keys, arguments))
        self._ids.append(ids)

    def _follow(self, settlement: Settlement) -> None:
        queue, lease = self._queue, settlement.message._lease
        keys, arguments = stored(settlement.envelopes, self._layout)
        keys[:0] = (self._acks, queue.payloads, queue.crashes)
        self._add("follow", tuple(keys), [lease], (lease, *arguments))

    def _nack(self, settlement: Settlement) -> None:
        queue, lease = self._queue, settlement.message._lease
        keys, arguments = stored(settlement.envelopes, self._layout)
        keys[:0] = (
            *(self._acks, queue.payloads, queue.crashes),
            *(queue.dead, queue.dead_payloads, queue.dead_reasons),
        )
        reason = printable(settlement.reason or "rejected")
        payload = settlement.payload or b""
        self._add("nack", tuple(keys), [lease], (lease, reason, payload, *arguments))
