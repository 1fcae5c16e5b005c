"""Keeping delayed messages in the server until they are due.

Producers, 2.x's too, push delayed messages to a delay queue in any order. Here they are taken
off its list in batches, handed over to the parking with an index by time, and those that are due
are moved to their queue. Between two steps each message is in the ack set of this worker, of the
parking, or in a list: whoever dies, others know where to look. Nothing is kept in memory.

    list q.DQ -- fetch -> held by us -- park -> parking and index
                          held by us <- take_due -- parking and index
                          held by us -- promote -> list q

Runs in the thread of the delay queue's consumer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeGuard

from ...broker import MessageProxy
from ...common import current_millis, q_name
from ...errors import DecodeError
from ...failpoints import hit
from .._store import decode
from .layout import PARKING
from .scripts import load

if TYPE_CHECKING:
    from logging import Logger

    from ...message import Message
    from ...redis.link import Call
    from .consumer import RedisConsumer

__all__ = ["Delays", "eta_of", "is_time"]

#: The latest eta: what is larger is not exact as a score of a sorted set.
MAX_ETA = 2**53
#: Most messages moved by one call.
BATCH = 500
#: Seconds after which a worker that has not parked anything itself looks for what others have.
LOOK_S = 1.0
#: The same while nothing is parked; a message parked in between by a worker that dies at once is
#: found that late at most.
LOOK_EMPTY_S = 5.0


def is_time(eta: object) -> TypeGuard[float]:
    """Tell whether an eta can be one: JSON has numbers that no clock shows."""
    return isinstance(eta, (int, float)) and abs(eta) <= MAX_ETA


def eta_of(message: Message[Any], logger: Logger) -> float | None:
    """Return when a message is due; None, with a warning, for what is no time."""
    eta = message.options.get("eta")
    if is_time(eta):
        return eta
    if eta is not None:
        logger.warning(
            "Invalid eta value for message %r: %r. Running it now.", message.message_id, eta
        )
    return None


class Delays:
    """The care for one delay queue.

    Args:
        consumer: Its consumer.
    """

    def __init__(self, consumer: RedisConsumer) -> None:
        self.consumer = consumer
        self.broker = consumer.broker
        self._layout = consumer.broker.layout
        self._queue = self._layout.queue(q_name(consumer.queue_name))
        self._delayed = self._layout.queue(consumer.queue_name)
        self._parked = self._layout.acks(PARKING, consumer.queue_name)
        #: When to look next, by the monotonic clock.
        self._look_at = 0.0

    def step(self, timeout_ms: float) -> None:
        """Wait until there is something to do, for so long at most, and do some of it."""
        now = time.monotonic()
        until = now + timeout_ms / 1000
        has_arrivals = True
        if self._look_at > now:
            has_arrivals = self.consumer._bell.wait(max(0.0, min(self._look_at, until) - now))
            if not has_arrivals and time.monotonic() < self._look_at:
                return
        self._take(has_arrivals=has_arrivals)

    def _take(self, *, has_arrivals: bool) -> None:
        """Take what is due, and what came in if something may have, and pass each on."""
        consumer, layout = self.consumer, self._layout
        worker, acks = consumer.worker, consumer._acks
        # A delay queue is never paused: what is due waits in its queue then.
        fetch_keys = layout.taking(worker, consumer.queue_name)
        due_keys = (
            *(layout.heartbeats, acks, self._parked),
            *(self._delayed.etas, self._delayed.payloads),
        )
        calls: list[Call] = [(load("take_due"), due_keys, (worker, BATCH))]
        if has_arrivals:
            calls.append((load("fetch"), fetch_keys, (worker, BATCH, consumer.queue_name)))
        due, *fetched = consumer._link.run(calls)
        if due is None or None in fetched:
            consumer.lose()
            return
        hit("redis.delays.after_take")
        wait_ms, due_ids, due_payloads = due
        ids, payloads = (fetched and fetched[0]) or ((), ())
        self._promote(dict(zip(due_ids, due_payloads, strict=True)))
        self._park(dict(zip(ids, payloads, strict=True)))
        is_done = len(ids) < BATCH and len(due_ids) < BATCH
        if not is_done or ids:
            # There is more, or what came may be due before what we know of.
            self._look_at = 0.0
        else:
            wait_s = LOOK_EMPTY_S if wait_ms < 0 else min(wait_ms / 1000, LOOK_S)
            self._look_at = time.monotonic() + wait_s

    def _park(self, arrived: dict[bytes, bytes | None]) -> None:
        """Hand what came in over to the parking; what is due already to its queue."""
        arguments: list[object] = []
        due: dict[bytes, Message[Any]] = {}
        now = current_millis()
        wants_hook = bool(self.broker.chain.before("before_delay_message"))
        for lease, message in self._decode(arrived).items():
            eta = eta_of(message, self.consumer.logger) or 0
            if wants_hook:
                self.broker.emit_before("delay_message", MessageProxy(message))
            if eta <= now:
                due[lease] = message
            else:
                arguments += (int(eta), lease)
        if arguments:
            keys = (self._layout.heartbeats, self.consumer._acks, self._parked, self._delayed.etas)
            self.consumer._link.run([(load("park"), keys, (PARKING, *arguments))])
            hit("redis.delays.after_park")
        self._move(due)

    def _promote(self, due: dict[bytes, bytes | None]) -> None:
        self._move(self._decode(due))

    def _move(self, due: dict[bytes, Message[Any]]) -> None:
        """Move messages to their queue, with the hooks of 2.x around that."""
        if not due:
            return
        broker, consumer = self.broker, self.consumer
        arguments: list[object] = []
        moving = []
        for lease, message in due.items():
            ready = message.copy(queue_name=q_name(message.queue_name), options={})
            ready.options.pop("eta", None)
            ready.options.setdefault("redis_message_id", lease.decode("utf-8", "replace"))
            try:
                broker.emit_before("enqueue", ready, None)
                payload = ready.encode()
            except Exception as error:
                # A hook or the encoder refuses it, and would do so again and again.
                consumer.bury(lease, message, error)
                continue
            arguments += (lease, payload)
            moving.append((message, ready))
        if not moving:
            return
        queue = self._queue
        keys = (consumer._acks, self._delayed.payloads, queue.ids, queue.payloads, queue.crashes)
        [states] = consumer._link.run([(load("promote"), keys, tuple(arguments))])
        hit("redis.delays.after_promote")
        for (message, ready), moved in zip(moving, states, strict=True):
            if moved:
                broker.emit_after("enqueue", ready, None)
                # In the order of 2.x, where these are two steps.
                broker.emit_before("ack", MessageProxy(message))
                broker.emit_after("ack", MessageProxy(message))

    def _decode(self, payloads: dict[bytes, bytes | None]) -> dict[bytes, Message[Any]]:
        """Decode what is a message; the rest goes to the dead letters."""
        consumer = self.consumer
        messages: dict[bytes, Message[Any]] = {}
        away = []
        for lease, payload in payloads.items():
            if payload is None:
                continue
            try:
                messages[lease] = decode(payload)
            except DecodeError as error:
                away += consumer._bury(lease, payload, error)
        if away:
            consumer._put_away(away)
        return messages
