"""The broker on RabbitMQ: 2.x's queues, so that fleets of both can share them."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import current_millis, dq_name, getenv_int, q_name, xq_name
from ...delivery import Envelope, MessageProxy
from ...errors import BrokerConnectionError, QueueJoinTimeout
from .._store import MAX_CRASHES, StoreBroker
from .blocking import BlockingConnections
from .consumer import RabbitmqConsumer
from .done import DoneWindow
from .link import Link
from .parameters import as_list, describe, make_parameters
from .poison import Flights
from .publisher import Outgoing
from .quiet import drop_broken_pipes
from .sending import Sender
from .topology import Topology, waiting_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...flight_recorder import FlightRecorder
    from ...inspection import Inspection
    from ...message import Message

__all__ = ["DEAD_MESSAGE_TTL", "RabbitmqBroker"]

#: Milliseconds dead letters are kept: seven days, unless the environment says otherwise.
DEAD_MESSAGE_TTL = getenv_int("dramatiq_dead_message_ttl") or 86_400_000 * 7
#: Milliseconds after which RabbitMQ takes back what is not acknowledged, unless its configuration
#: says otherwise.
CONSUMER_TIMEOUT_MS = 30 * 60_000
#: RabbitMQ's limit.
HIGHEST_PRIORITY = 255


class RabbitmqBroker(BlockingConnections, StoreBroker):
    """Keeps messages in RabbitMQ, in the queues of Dramatiq 2.x.

    A message whose `enqueue` returned was confirmed by the server. A process has one connection
    to publish on, and a worker another one to consume on: to guard its memory the server stops
    reading from connections that publish, and acknowledgements must not wait for that.

    Args:
        confirm_delivery: Whether `enqueue` waits until the server has stored the message.
        url: ``amqp://user:password@host:port/virtual-host``, or ``amqps://``; several, to be
            tried in order, as a list or separated by semicolons.
        middleware: See `Broker`.
        max_priority: Give queues so many priorities, 1 to 255; the option ``broker_priority`` of
            a message then says which, and higher comes first.
        parameters: Keywords of ``pika.ConnectionParameters``, a dictionary for each server.
        options: Keywords of ``pika.ConnectionParameters``, for one server.

    Attributes:
        queues: Names of declared queues.
        queues_pending: Names of those that were not declared on the server yet.

    Raises:
        RuntimeError: If servers are named in more than one way.
        ValueError: If ``max_priority`` is out of range.
    """

    queues: set[str]

    def __init__(
        self,
        *,
        confirm_delivery: bool = True,
        url: str | list[str] | None = None,
        middleware: Iterable[Any] | None = None,
        max_priority: int | None = None,
        parameters: list[dict[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(middleware=middleware)
        if max_priority is not None and not 0 < max_priority <= HIGHEST_PRIORITY:
            raise ValueError(f"max_priority must be between 1 and 255, not {max_priority}.")
        self.parameters = make_parameters(url, parameters, options)
        self.confirm_delivery = confirm_delivery
        self.max_priority = max_priority
        self.queues = set()
        self.queues_pending: set[str] = set()
        self.sending = Link(lambda: self.parameters, "publishing")
        self.consuming = Link(lambda: self.parameters, "consuming")
        self.topology = Topology(
            self.sending, DEAD_MESSAGE_TTL, self.max_priority, self.queues_pending
        )
        self.sender = Sender(self.sending, self.topology)
        #: How many processes a message may bring down before it is dead.
        self.max_crashes = MAX_CRASHES
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        #: Names of actors that were warned of.
        self._warned: set[str] = set()
        self._done: dict[str, DoneWindow] = {}
        self._consumers: weakref.WeakSet[RabbitmqConsumer] = weakref.WeakSet()
        #: Tells what processes were running that have died.
        self.flights = Flights()

    def _lock_of_this_process(self) -> threading.Lock:
        # After a fork everything here, the lock included, is the parent's.
        if self._pid != os.getpid():
            self._reset()
        return self._lock

    @property
    def display_url(self) -> str:
        """Where the broker is, for people to read and without the password."""
        return f"rabbitmq at {', '.join(map(describe, as_list(self.parameters)))}"

    # -- declaring

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue and its delay queue; harmless when it is declared already.

        Args:
            queue_name: Its name, or that of its delay queue.
            ensure: Whether to create them on the server now, rather than when they are used.

        Raises:
            BrokerConnectionError: If that cannot be done.
        """
        queue_name = q_name(queue_name)
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
            delay_queue_name = dq_name(queue_name)
            self.delay_queues.add(delay_queue_name)
            self.emit_after("declare_delay_queue", delay_queue_name)
        if ensure:
            self.topology.ensure(queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of all declared queues."""
        return self.queues.copy()

    # -- sending

    def _prepare(
        self, message: Message[Any] | MessageProxy, delay: int | None, delivery_id: bytes
    ) -> Envelope:
        if isinstance(message, MessageProxy):
            message = message._message
        if delay is not None:
            message = message.copy(
                queue_name=dq_name(message.queue_name), options={"eta": current_millis() + delay}
            )
        self.declare_queue(message.queue_name)
        self.emit_before("enqueue", message, delay)
        return Envelope(message, message.encode(), delivery_id=delivery_id, delay=delay)

    def outgoing(self, envelope: Envelope, delivery_id: str | None = None) -> Outgoing:
        """Return what is published for an envelope."""
        message = envelope.message
        priority = message.options.get("broker_priority")
        return Outgoing(
            message.queue_name,
            envelope.payload,
            delivery_id or envelope.delivery_id.hex(),
            None if priority is None else int(priority),
            is_mandatory=self.confirm_delivery,
        )

    def _store(self, envelopes: Sequence[Envelope]) -> None:
        self.sender.send(
            [self.outgoing(each) for each in envelopes], confirms=self.confirm_delivery
        )

    async def _store_async(self, envelopes: Sequence[Envelope]) -> None:
        await asyncio.to_thread(self._store, envelopes)

    # -- receiving

    @property
    def consumer_class(self) -> type[RabbitmqConsumer]:
        """What `consume` makes: called with broker, queue name, prefetch and timeout."""
        return RabbitmqConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> RabbitmqConsumer:
        """Return a consumer; see `Broker.consume`.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        self.declare_queue(queue_name, ensure=True)
        if queue_name not in self.delay_queues:
            self._warn_of_long_actors(queue_name)
        consumer = self.consumer_class(self, queue_name, prefetch, timeout)
        with self._lock_of_this_process():
            self._consumers.add(consumer)
        return consumer

    def _warn_of_long_actors(self, queue_name: str) -> None:
        # AMQP does not tell what the server's timeout is.
        for actor in self.actors.values():
            limit = actor.options.get("time_limit") or 0
            is_long = CONSUMER_TIMEOUT_MS < limit < math.inf
            if actor.queue_name == queue_name and is_long and actor.actor_name not in self._warned:
                self._warned.add(actor.actor_name)
                self.logger.warning(
                    "Actor %r may run for %d minutes. After 30, unless its consumer_timeout is "
                    "longer, RabbitMQ gives the message to another worker: check that on the "
                    "server.",
                    actor.actor_name,
                    limit // 60_000,
                )

    def done_window(self, queue_name: str) -> DoneWindow:
        """Return what this process has finished of a queue."""
        with self._lock_of_this_process():
            return self._done.setdefault(queue_name, DoneWindow())

    def make_flight_recorder(self, slots: int) -> FlightRecorder:
        """Return where a worker is to write down what it runs; see `Broker`."""
        with self._lock_of_this_process():
            return self.flights.make(slots)

    # -- caring

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import RabbitmqInspection  # few processes of an application need it

        return RabbitmqInspection(self)

    def get_queue_message_counts(self, queue_name: str) -> tuple[int, int, int]:
        """Return how many messages are ready, delayed and dead.

        What workers hold is not counted.
        """
        self.declare_queue(queue_name, ensure=True)
        return self.topology.count_queue(queue_name)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue but those that workers hold, dead letters included."""
        names = [q_name(queue_name), dq_name(queue_name), xq_name(queue_name)]
        self.topology.purge(names + waiting_names(queue_name))

    def flush_all(self) -> None:
        """Drop all messages of all declared queues but those that workers hold."""
        for queue_name in self.get_declared_queues():
            self.flush(queue_name)

    def join(
        self,
        queue_name: str,
        min_successes: int = 10,
        idle_time: int = 100,
        *,
        timeout: int | None = None,
    ) -> None:
        """Wait until a queue has nothing left to run, delayed messages included.

        The server does not tell what workers in other processes hold: a queue counts as done when
        it was seen empty several times, and nothing of it is held in this process.

        Args:
            queue_name: The queue.
            min_successes: How often in a row it must be empty.
            idle_time: Milliseconds between two looks.
            timeout: Milliseconds; None or 0 waits for ever.

        Raises:
            QueueJoinTimeout: At the deadline.
        """
        deadline = time.monotonic() + timeout / 1000 if timeout else None
        never = threading.Event()
        successes = 0
        while successes < min_successes:
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            held = self.held_here(queue_name)
            ready, delayed, _ = self.topology.count_queue(queue_name)
            is_empty = not (held or ready or delayed or self.held_here(queue_name))
            successes = successes + 1 if is_empty else 0
            if successes < min_successes:
                never.wait(idle_time / 1000)

    def held_here(self, queue_name: str) -> int:
        """Return how many messages of a queue the consumers of this process hold."""
        with self._lock_of_this_process():
            consumers = list(self._consumers)
        return sum(
            each.held_count for each in consumers if q_name(each.queue_name) == q_name(queue_name)
        )

    def close(self) -> None:
        """Give back what is held and close the connections; a next use opens others."""
        drop_broken_pipes()
        with self._lock_of_this_process():
            consumers = list(self._consumers)
        for consumer in consumers:
            with suppress(BrokerConnectionError):
                consumer.close()
        self.close_blocking()
        self.consuming.close()
        self.sending.close()
