"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`.

The consumer outlives its connection. When that breaks, the server puts back whatever was not
acknowledged and delivers it again; what comes back to us is recognised by its id:

    it has finished here                  acknowledged, not run again
    it is still held or running here      the running one is settled by the new delivery
    neither                               handed out

A delivery is settled on the channel it came over and on no other: the same number means another
message there.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ...broker import Consumer
from ...common import current_millis, q_name
from ...delivery import Outcome, Settlement
from ...errors import BrokerConnectionError, DecodeError
from ...failpoints import hit
from ...logging import get_logger
from .._store import decode, printable
from .delays import Delays, eta_of
from .failures import try_again
from .identity import Identity, derived_id, identify
from .inlet import Inlet
from .letters import CRASHES, crashed, dead_letter, delayed
from .message import RabbitmqMessage
from .settling import consequences_of
from .topology import CRASH_DELAYS_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...broker import MessageProxy
    from ...message import Message
    from .broker import RabbitmqBroker
    from .inlet import Delivery
    from .publisher import Outgoing

__all__ = ["RabbitmqConsumer"]

#: Most messages that a delay queue's consumer holds: they stay no longer than two seconds.
MAX_DELAY_PREFETCH = 2000
#: Seconds to wait, after a reconnection, for messages to be delivered again that are done.
REDELIVERY_S = 0.5


class RabbitmqConsumer(Consumer):
    """Consumes one queue.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages the server may hand out and not have back.
        timeout: Milliseconds `__next__` waits.

    Raises:
        BrokerConnectionError: If the server cannot be reached.
    """

    is_owned = True

    def __init__(
        self, broker: RabbitmqBroker, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        self.logger = get_logger("dramatiq.brokers.rabbitmq", type(self))
        self.broker = broker
        self.queue_name = queue_name
        self.timeout = timeout
        self._delays = Delays(self) if queue_name != q_name(queue_name) else None
        self.hands_out = self._delays is None
        self.prefetch = prefetch if self.hands_out else min(prefetch, MAX_DELAY_PREFETCH)
        #: What was handed out and not settled, by id.
        self._held: dict[bytes, RabbitmqMessage] = {}
        #: Copies of what is held: published twice, as nobody knew what became of the first.
        self._twins: dict[bytes, list[Delivery]] = {}
        #: What has arrived and not been handed out.
        self._cache: deque[RabbitmqMessage] = deque()
        #: Settled by a call that then failed, as what follows from others could not be stored.
        self._settled: set[Settlement] = set()
        self._done = broker.done_window(queue_name)
        self._changed = threading.Condition()
        self._is_woken = False
        self._is_closed = False
        self._inlet = self._open()

    # -- the contract of 2.x

    def __next__(self) -> RabbitmqMessage | None:
        messages = self.fetch(1, self.timeout)
        return messages[0] if messages else None

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good; harmless for one that is not held."""
        self._settle_one(Settlement(message, Outcome.ACK))

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        self._settle_one(Settlement(message, Outcome.NACK))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to their places in the queue."""
        self.settle([Settlement(message, Outcome.REQUEUE) for message in messages])

    def _settle_one(self, settlement: Settlement) -> None:
        if not self.settle([settlement])[0]:
            self.logger.warning("Message %s was not ours any more.", settlement.message)

    def recover(self) -> bool:
        """Tell that we go on: what comes again after a reconnection is recognised."""
        return not self._is_closed

    def close(self) -> None:
        """Settle what was submitted and give back the rest."""
        self._is_closed = True
        self._held.clear()
        self._cache.clear()
        self._inlet.close()

    # -- many at a time

    def fetch(self, max_messages: int, timeout_ms: float) -> list[RabbitmqMessage]:  # type: ignore[override]
        """Take up to so many messages; wait for the first."""
        return self.exchange([], max_messages, timeout_ms)[1]  # type: ignore[return-value]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Store what follows from all of them, then settle them."""
        return self.exchange(settlements, 0, 0)[0]

    def exchange(
        self, settlements: Sequence[Settlement], max_messages: int, timeout_ms: float
    ) -> tuple[list[bool], list[MessageProxy]]:
        """Settle, then take what has arrived."""
        self._reconnect()
        settled = self._settle(settlements) if settlements else []
        if self._delays is not None:
            if max_messages and not settlements:
                self._delays.step(timeout_ms)
            return settled, []
        if not max_messages:
            return settled, []
        return settled, self._fetch(max_messages, 0 if settlements else timeout_ms)

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    @property
    def held_count(self) -> int:
        """How many messages the server has handed to us and not got back. Any thread."""
        return self._inlet.unsettled

    # -- the connection

    def _open(self) -> Inlet:
        self.broker.topology.ensure(self.queue_name)
        return try_again(
            lambda: Inlet(
                self.broker.consuming.session(),
                self.queue_name,
                self.prefetch,
                self._changed,
                gives_back=self.hands_out,
            ).open()
        )

    def _reconnect(self) -> None:
        """Open the channel anew if it was lost."""
        error = self._inlet.error
        if error is None:
            return
        if self._is_closed:
            raise error
        self.logger.warning("Consuming queue %r anew: %s", self.queue_name, error)
        if self._inlet.session.error is None:
            self.broker.topology.forget(self.queue_name)  # it may be the queue that is gone
        self._twins.clear()
        for message in self._cache:
            self._held.pop(message._lease, None)
        self._cache.clear()
        if self._delays is not None:
            self._delays.forget()
        self._inlet = self._open()

    # -- taking

    def _fetch(self, count: int, timeout_ms: float) -> list[MessageProxy]:
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            wanted = count - len(self._cache)
            if wanted > 0:
                self._cache += self._receive(self._inlet.take(wanted))
            if self._cache:
                return [self._cache.popleft() for _ in range(min(count, len(self._cache)))]
            if not self.wait(deadline - time.monotonic()):
                return []
            self._reconnect()

    def wait(self, timeout_s: float) -> bool:
        """Wait until something has arrived; False if it has not, or somebody woke us."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_woken or self._inlet.has_news, timeout_s)
            is_woken, self._is_woken = self._is_woken, False
            return self._inlet.has_news and not is_woken

    def take(self, count: int) -> list[Delivery]:
        """Return up to so many of the deliveries that have arrived."""
        return self._inlet.take(count)

    def _receive(self, arrived: Sequence[Delivery]) -> list[RabbitmqMessage]:
        messages: list[RabbitmqMessage] = []
        away: list[tuple[Delivery, list[Outgoing]]] = []
        now = current_millis()
        comes_again = any(delivery.redelivered for delivery in arrived)
        suspects = self.broker.flights.running() if comes_again else set()
        for delivery in arrived:
            identity = identify(delivery)
            if self._is_known(delivery, identity):
                continue
            try:
                message = decode(delivery.body)
            except DecodeError as error:
                away.append(self._bury(delivery, identity, error))
                continue
            if identity.key in suspects and self.broker.flights.was_running(identity.key):
                away.append((delivery, [self._blame(delivery, message, identity)]))
                continue
            eta = eta_of(message, self.logger)
            if eta is not None and eta > now:
                later = delayed(delivery, message, derived_id(identity.key, "park"))
                away.append((delivery, [later]))
                continue
            message.options.pop("eta", None)
            messages.append(self._hold(message, delivery, identity))
        if away:
            self.put_away(away)
        return messages

    def _hold(
        self, message: Message[Any], delivery: Delivery, identity: Identity
    ) -> RabbitmqMessage:
        proxy = RabbitmqMessage(message, delivery)
        key = identity.key
        if key in self._held:  # a foreign one that was sent twice, and is to run twice
            key += b"-%d" % delivery.tag
        proxy._lease = key
        self._held[key] = proxy
        return proxy

    def _is_known(self, delivery: Delivery, identity: Identity) -> bool:
        """Deal with what has finished or is held here already; False for anything else."""
        key = identity.key
        if not (identity.is_certain or delivery.redelivered):
            return False
        finished_at = self._done.finished_at(key)
        # Without an id of its own, what has finished can come again over a new connection only.
        if finished_at is not None and (
            identity.is_certain or finished_at < delivery.inlet.opened_at
        ):
            delivery.inlet.settle([delivery.tag])
            return True
        held = self._held.get(key)
        if held is None:
            return False
        if not self._is_current(held):
            held._delivery = delivery
            return True
        if identity.is_certain:
            self._twins.setdefault(key, []).append(delivery)
            return True
        return False

    def _is_current(self, message: RabbitmqMessage) -> bool:
        return message.came_by(self._inlet)

    def _bury(
        self, delivery: Delivery, identity: Identity, error: DecodeError
    ) -> tuple[Delivery, list[Outgoing]]:
        """Return what moves something that is no message to the dead letters, as it is."""
        text = printable(str(error.error or error))
        self.logger.error(
            "Message in queue %r cannot be decoded; its %d bytes go to the dead letters as they "
            "are. Was it written by hand, or with another encoder? %s",
            self.queue_name,
            len(delivery.body),
            text,
        )
        letter = dead_letter(delivery, self.queue_name, identity.text, f"DecodeError: {text}")
        return delivery, [letter]

    def _blame(self, delivery: Delivery, message: Message[Any], identity: Identity) -> Outgoing:
        """Return what is to stand for a message that has brought down a process."""
        known = delivery.headers.get(CRASHES)
        crashes = (known if isinstance(known, int) else 0) + 1
        if crashes >= self.broker.max_crashes:
            reason = f"poison: {crashes} processes died while they ran it"
            self.logger.error("Message %s is dead: %s.", message, reason)
            self.broker.tell_workflows_of_dead([message], reason)
            return dead_letter(delivery, self.queue_name, identity.text, reason)
        self.logger.warning("A process died while it ran message %s; it waits.", message)
        delay_ms = CRASH_DELAYS_MS[min(crashes, len(CRASH_DELAYS_MS)) - 1]
        delivery_id = identity.text if identity.is_certain else derived_id(identity.key, "crash")
        return crashed(delivery, self.queue_name, delivery_id, crashes, delay_ms)

    def put_away(self, away: Sequence[tuple[Delivery, list[Outgoing]]]) -> bool:
        """Publish what is to stand for some deliveries, then acknowledge these."""
        tags = [delivery.tag for delivery, _ in away]
        inlet = away[0][0].inlet
        try:
            self.broker.sender.send([each for _, outgoing in away for each in outgoing])
        except BrokerConnectionError as error:
            # Raising would take the good ones along. These come again.
            self.logger.warning("Cannot put %d messages away now: %s", len(away), error)
            inlet.settle((), tags)
            return False
        hit("rabbitmq.put_away.before_ack")
        inlet.settle(tags)
        return True

    # -- settling

    def _settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        held = [each for each in settlements if self._is_held(each.message)]
        self._await_redelivery([each.message for each in held])  # type: ignore[misc]
        # Of several for one message the first counts.
        firsts = {id(each.message): each for each in reversed(held)}.values()
        ours = [each for each in reversed(firsts) if self._is_current(each.message)]  # type: ignore[arg-type]
        outgoing = {each: consequences_of(each, self.broker, self.queue_name) for each in ours}
        # Those from which nothing follows first: they need not wait until others can be stored.
        self._settled.update(each for each in ours if not outgoing[each])
        self._carry_out([each for each in ours if not outgoing[each]])
        hit("rabbitmq.settle.before_publish")
        consequences = [each for follows in outgoing.values() for each in follows]
        if consequences:
            self.broker.sender.send(consequences)
        hit("rabbitmq.settle.before_ack")
        self._settled.update(ours)
        self._carry_out([each for each in ours if outgoing[each]])
        for each in held:
            is_stale = self._held.pop(each.message._lease, None) is not None
            # What follows, a retry for example, was not stored: then it must run again.
            if is_stale and each.outcome is Outcome.ACK and not each.envelopes:
                self._done.add(each.message._lease)
        settled, self._settled = self._settled, set()
        return [each in settled for each in settlements]

    def _carry_out(self, settlements: Sequence[Settlement]) -> None:
        acked: list[int] = []
        requeued: list[int] = []
        for each in settlements:
            self._conclude(each, acked, requeued)
        if settlements:
            self._inlet.settle(acked, requeued)

    def _is_held(self, message: MessageProxy) -> bool:
        return message._lease is not None and self._held.get(message._lease) is message

    def _await_redelivery(self, messages: Sequence[RabbitmqMessage]) -> None:
        """After a reconnection, give what is done the time to come again.

        Otherwise what follows from it could not be stored, and it would have to run again.
        """
        deadline = time.monotonic() + REDELIVERY_S
        while self._delays is None and not all(map(self._is_current, messages)):
            with self._changed:
                remaining = deadline - time.monotonic()
                self._changed.wait_for(lambda: self._inlet.has_news, remaining)
            if remaining <= 0 or self._inlet.error is not None:
                return
            self._cache += self._receive(self._inlet.take(self.prefetch))

    def _conclude(self, settlement: Settlement, acked: list[int], requeued: list[int]) -> None:
        message: Any = settlement.message
        tags = [message._tag, *(each.tag for each in self._twins.pop(message._lease, ()))]
        del self._held[message._lease]
        if settlement.outcome is Outcome.REQUEUE:
            requeued += tags
        else:
            # From here on it is done, whether or not the server hears of it.
            self._done.add(message._lease)
            acked += tags
