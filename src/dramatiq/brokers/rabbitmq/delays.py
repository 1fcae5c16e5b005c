"""Keeping delayed messages in the server until they are due.

Producers, 2.x's too, publish delayed messages to a delay queue in any order. Its consumer keeps
those that are due within two seconds in hand, and parks the others: in a queue from which the
server moves them back after a fixed time, the longest that is not too long. So nothing stays
unacknowledged for long, far messages do not hold up near ones, and a worker of 2.x can take over
at any time.

    q.DQ --> due later    --> q.park.<ms> --(its time is over)--> q.DQ
         --> due soon     --> held --> q

Each arrow is a publish that the server confirmed, then an acknowledgement. Runs in the thread of
the delay queue's consumer.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from ...broker import MessageProxy
from ...common import current_millis, q_name
from ...errors import DecodeError
from ...failpoints import hit
from .._store import decode
from .identity import identify
from .letters import PARKED, dead_letter, due, new_id, parked
from .topology import bucket_for

if TYPE_CHECKING:
    from logging import Logger

    from ...message import Message
    from .consumer import RabbitmqConsumer
    from .inlet import Delivery
    from .publisher import Outgoing

__all__ = ["Delays", "eta_of"]

#: Milliseconds: what is due later than that is parked.
HOLD_MS = 2000
#: The latest eta: JSON has numbers that no clock shows.
MAX_ETA = 2**53
#: Most messages moved by one step.
BATCH = 500


def eta_of(message: Message[Any], logger: Logger) -> float | None:
    """Return when a message is due; None, with a warning, for what is no time."""
    eta = message.options.get("eta")
    if isinstance(eta, (int, float)) and abs(eta) <= MAX_ETA:
        return eta
    if eta is not None:
        logger.warning(
            "Invalid eta value for message %r: %r. Running it now.", message.message_id, eta
        )
    return None


class _Held(NamedTuple):
    """A message that is due soon."""

    eta: float
    number: int
    message: Message[Any]
    delivery: Delivery


class Delays:
    """The care for one delay queue.

    Args:
        consumer: Its consumer.
    """

    def __init__(self, consumer: RabbitmqConsumer) -> None:
        self.consumer = consumer
        self.broker = consumer.broker
        self._held: list[_Held] = []
        self._numbers = count()

    def forget(self) -> None:
        """Forget what is held: the connection is lost, and it comes again."""
        self._held.clear()

    def step(self, timeout_ms: float) -> None:
        """Wait until there is something to do, for so long at most, and do some of it."""
        wait_ms = timeout_ms
        if self._held:
            wait_ms = min(wait_ms, max(0.0, self._held[0].eta - current_millis()))
        if self.consumer.wait(wait_ms / 1000):
            self._sort(self.consumer.take(BATCH))
        self._promote()

    def _sort(self, arrived: list[Delivery]) -> None:
        """Hold what is due soon and park what is due later."""
        away: list[tuple[Delivery, list[Outgoing]]] = []
        now = current_millis()
        wants_hook = bool(self.broker.chain.before("before_delay_message"))
        for delivery in arrived:
            identity = identify(delivery)
            try:
                message = decode(delivery.body)
            except DecodeError as error:
                away.append(self.consumer._bury(delivery, identity, error))
                continue
            if wants_hook and PARKED not in delivery.headers:
                self.broker.emit_before("delay_message", MessageProxy(message))
            eta = eta_of(message, self.consumer.logger) or 0
            if eta - now <= HOLD_MS:
                held = _Held(eta, next(self._numbers), message, delivery)
                heapq.heappush(self._held, held)
                continue
            delivery_id = identity.text if identity.is_certain else new_id()
            bucket_ms = bucket_for(eta - now)
            away.append(
                (delivery, [parked(delivery, self.consumer.queue_name, delivery_id, bucket_ms)])
            )
        if away:
            hit("rabbitmq.delays.before_park")
            self.consumer.put_away(away)

    def _promote(self) -> None:
        """Move what is due to its queue, with the hooks of 2.x around that."""
        now = current_millis()
        moving: list[_Held] = []
        while self._held and self._held[0].eta <= now and len(moving) < BATCH:
            moving.append(heapq.heappop(self._held))
        if not moving:
            return
        ready: list[tuple[_Held, Message[Any]]] = []
        away: list[tuple[Delivery, list[Outgoing]]] = []
        for held in moving:
            message = held.message.copy(queue_name=q_name(held.message.queue_name), options={})
            message.options.pop("eta", None)
            identity = identify(held.delivery)
            delivery_id = identity.text if identity.is_certain else new_id()
            try:
                self.broker.emit_before("enqueue", message, None)
                outgoing = due(held.delivery, message, message.encode(), delivery_id)
            except Exception as error:
                # A hook or the encoder refuses it, and would do so again and again.
                away.append((held.delivery, [self._bury(held, delivery_id, error)]))
                continue
            ready.append((held, message))
            away.append((held.delivery, [outgoing]))
        hit("rabbitmq.delays.before_promote")
        if self.consumer.put_away(away):
            self._announce(ready)

    def _announce(self, ready: list[tuple[_Held, Message[Any]]]) -> None:
        for held, message in ready:
            self.broker.emit_after("enqueue", message, None)
            # In the order of 2.x, where these are two steps.
            proxy = MessageProxy(held.message)
            self.broker.emit_before("ack", proxy)
            self.broker.emit_after("ack", proxy)

    def _bury(self, held: _Held, delivery_id: str, error: Exception) -> Outgoing:
        self.consumer.logger.error(
            "Delayed message %s cannot be enqueued; it is dead.", held.message, exc_info=error
        )
        reason = f"{type(error).__name__}: {error}"
        return dead_letter(held.delivery, self.consumer.queue_name, delivery_id, reason)
