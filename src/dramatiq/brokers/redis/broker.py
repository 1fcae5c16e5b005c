"""The broker on Redis: 2.x's keys, so that fleets of both can share them while one moves over."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import current_millis, dq_name
from ...delivery import Envelope, MessageProxy
from ...errors import BrokerConnectionError, QueueJoinTimeout
from ...failpoints import hit
from ...flight_recorder import FlightRecorder
from ...message import generate_unique_id
from ...redis import LinkPool, make_client
from ...redis.client import place_of
from ...redis.failures import is_out_of_memory
from ...redis.link import describe
from .._store import MAX_CRASHES, StoreBroker
from .caretaker import Caretaker
from .commands import Commands
from .consumer import RedisConsumer
from .layout import Layout
from .membership import Membership
from .parking import Parking
from .scripts import load, load_all
from .sending import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ...history.stores.redis import RedisStore
    from ...inspection import Inspection
    from ...message import Message

__all__ = ["RedisBroker"]

#: Milliseconds dead letters are kept: seven days.
DEFAULT_DEAD_MESSAGE_TTL = 86_400_000 * 7
#: Milliseconds without a sign of life after which a worker of 2.x counts as dead.
DEFAULT_HEARTBEAT_TIMEOUT = 60_000
#: The same for our own, which beat whatever they are at.
OWN_HEARTBEAT_TIMEOUT = 30_000
#: How many of a million commands of 2.x's contract are preceded by maintenance.
DEFAULT_MAINTENANCE_CHANCE = 1000
#: Milliseconds between two looks at whether a joined queue is empty.
JOIN_INTERVAL = 100
#: Most dead letters dropped by one call.
BATCH = 500


class RedisBroker(StoreBroker):
    """Keeps messages in Redis, in the layout of Dramatiq 2.x.

    A message whose `enqueue` returned is as safe as the server's persistence and replication make
    it. It is leased to one worker at a time and removed when that worker is done with it. Workers
    that die are noticed within a second by others on the same machine, within 37 seconds by those
    on other machines, and what they held runs elsewhere.

    Redis 6.2 or newer, or a server compatible with that. It must run with ``maxmemory-policy
    noeviction``, and with ``appendonly yes`` if messages are to survive its restart.

    Any attribute ``do_<command>`` is one of the `Commands` of 2.x.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
        middleware: See `Broker`.
        namespace: Prefix of all keys. In a cluster it needs a hash tag: ``{dramatiq}``.
        maintenance_chance: How many of a million commands of 2.x's contract are preceded by
            maintenance. Workers do not need it: they maintain by the clock.
        heartbeat_timeout: Milliseconds without a sign of life after which a worker counts as
            dead: 60 seconds for workers of 2.x and 30 seconds for ours by default.
        dead_message_ttl: Milliseconds dead letters are kept.
        client: A client of the ``redis`` package to use instead: of a cluster or of sentinels'
            master, for example.
        min_replicas: How many replicas must confirm a message before `enqueue` returns.
        parameters: Further arguments of ``redis.Redis``.

    Attributes:
        client: The client.
        queues: Names of declared queues.
        namespace: As given.
        scripts: The Lua scripts, by name.
    """

    queues: set[str]

    def __init__(
        self,
        *,
        url: str | None = None,
        middleware: Iterable[Any] | None = None,
        namespace: str = "dramatiq",
        maintenance_chance: int = DEFAULT_MAINTENANCE_CHANCE,
        heartbeat_timeout: int = DEFAULT_HEARTBEAT_TIMEOUT,
        dead_message_ttl: int = DEFAULT_DEAD_MESSAGE_TTL,
        client: Any = None,
        min_replicas: int = 0,
        **parameters: Any,
    ) -> None:
        super().__init__(middleware=middleware)
        self.queues = set()
        self.client = make_client(client=client, url=url, **parameters)
        self.namespace = namespace
        self.maintenance_chance = maintenance_chance
        self.heartbeat_timeout = heartbeat_timeout
        self.dead_message_ttl = dead_message_ttl
        self.min_replicas = min_replicas
        #: How many processes a message may bring down before it is dead.
        self.max_crashes = MAX_CRASHES
        self.layout = Layout(namespace)
        self.links = LinkPool(self.client, self.layout.heartbeats)
        self.membership = Membership(self.links, self.layout)
        self.parking = Parking(self.links, self.layout)
        self._sender = Sender(self.links, self.layout)
        self._commands = Commands(self)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._broker_id = generate_unique_id()
        self._caretaker: Caretaker | None = None
        #: Where the workers of this process write down what they run.
        self._recorders: weakref.WeakSet[FlightRecorder] = weakref.WeakSet()
        #: The consumers that hold messages in the name of this worker.
        self._consumers: weakref.WeakSet[RedisConsumer] = weakref.WeakSet()

    def _lock_of_this_process(self) -> threading.RLock:
        # After a fork everything here, the lock included, is the parent's.
        if self._pid != os.getpid():
            self._reset()
        return self._lock

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("do_"):
            with suppress(AttributeError):
                command: Callable[..., Any] = getattr(self._commands, name[3:])
                return command
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def display_url(self) -> str:
        """Where the broker is, for people to read and without the password."""
        return f"redis at {describe(self.client)}, namespace {self.namespace!r}"

    # -- declaring

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue and its delay queue; harmless when it is declared already."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues.add(queue_name)
        self.emit_after("declare_queue", queue_name)
        delay_queue_name = dq_name(queue_name)
        self.delay_queues.add(delay_queue_name)
        self.emit_after("declare_delay_queue", delay_queue_name)

    def get_declared_queues(self) -> set[str]:
        """Return the names of all declared queues."""
        return self.queues.copy()

    @property
    def all_queue_names(self) -> list[str]:
        """The names of all declared queues and delay queues."""
        return [*self.queues, *self.delay_queues]

    # -- sending

    def _prepare(
        self, message: Message[Any] | MessageProxy, delay: int | None, _delivery_id: bytes
    ) -> Envelope:
        message = self.address(message, delay)
        self.emit_before("enqueue", message, delay)
        # Hooks may have changed it.
        delivery_id = str(message.options["redis_message_id"]).encode()
        return Envelope(message, message.encode(), delivery_id=delivery_id, delay=delay)

    def address(self, message: Message[Any] | MessageProxy, delay: int | None) -> Message[Any]:
        """Return a copy with a new id, and with its eta on the delay queue if it has a delay."""
        if isinstance(message, MessageProxy):
            message = message._message
        options: dict[str, Any] = {"redis_message_id": generate_unique_id()}
        queue_name = message.queue_name
        if delay is not None:
            queue_name = dq_name(queue_name)
            options["eta"] = current_millis() + delay
        return message.copy(queue_name=queue_name, options=options)

    def _store(self, envelopes: Sequence[Envelope]) -> None:
        self._sender.send(envelopes, min_replicas=self.min_replicas)

    def shares_server_with(self, client: Any) -> bool:
        """Tell whether what a client stores can be stored together with a settlement."""
        if hasattr(client, "get_node_from_key"):
            return False  # in a cluster, results are on other nodes than the queue
        if client is self.client:
            return True
        place = place_of(client)
        return place is not None and place == place_of(self.client)

    async def _store_async(self, envelopes: Sequence[Envelope]) -> None:
        await asyncio.to_thread(self._store, envelopes)

    # -- receiving

    @property
    def consumer_class(self) -> type[RedisConsumer]:
        """What `consume` makes: called with broker, queue name, prefetch and timeout."""
        return RedisConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> RedisConsumer:
        """Return a consumer; see `Broker.consume`. It connects when it is used."""
        return self.consumer_class(self, queue_name, prefetch, timeout)

    @property
    def broker_id(self) -> str:
        """The name under which this process leases messages: a UUID, new after a fork."""
        with self._lock_of_this_process():
            return self._broker_id

    @broker_id.setter
    def broker_id(self, broker_id: str) -> None:
        with self._lock_of_this_process():
            self._broker_id = broker_id

    def make_flight_recorder(self, slots: int) -> FlightRecorder:
        """Return where a worker is to write down what it runs; see `Broker`."""
        recorder = FlightRecorder(slots)
        with self._lock_of_this_process():
            self._recorders.add(recorder)
        return recorder

    @property
    def own_timeout(self) -> int:
        """Milliseconds without heartbeat after which a worker of ours counts as dead."""
        if self.heartbeat_timeout == DEFAULT_HEARTBEAT_TIMEOUT:
            return OWN_HEARTBEAT_TIMEOUT
        return self.heartbeat_timeout

    def disown(self, worker: str) -> None:
        """Take a new name: this one was struck off. Harmless for one that is not in use."""
        with self._lock_of_this_process():
            if self._broker_id == worker:
                self._broker_id = generate_unique_id()

    def enter(self, consumer: RedisConsumer) -> None:
        """Register the worker on behalf of a consumer that is about to take messages.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        with self._lock_of_this_process():
            self._consumers.add(consumer)
            names = {each.queue_name for each in self._consumers}
            recorders = [each.name for each in self._recorders]
            self.membership.join(self._broker_id, names, recorders)
            if self._caretaker is None:
                self._caretaker = Caretaker(self)
                self._caretaker.start()

    def leave(self, consumer: RedisConsumer) -> None:
        """Sign off on behalf of a consumer; the last one of its name strikes that off."""
        with self._lock_of_this_process():
            if consumer not in self._consumers:
                return
            self._consumers.discard(consumer)
            # One that was taken for dead leaves others behind, under a new name.
            if any(each.worker == consumer.worker for each in self._consumers):
                return
            caretaker = None
            if not self._consumers:
                caretaker, self._caretaker = self._caretaker, None
        if caretaker is not None:
            caretaker.stop()
        hit("redis.leave.before_strike_off")
        try:
            removed, left = self.membership.strike_off(consumer.worker, self.all_queue_names)
            if removed and not left:
                hit("redis.leave.before_unpark")
                for queue_name in list(self.delay_queues):
                    self.parking.give_back(queue_name)
        except BrokerConnectionError as error:
            self.logger.warning("Cannot sign off; others take over what is left: %s", error)

    def held_by(self, queue_name: str) -> set[bytes]:
        """Return the ids that the consumers of this process hold of a queue. Any thread."""
        with self._lock_of_this_process():
            consumers = list(self._consumers)
        return {
            lease
            for each in consumers
            if each.queue_name == queue_name
            for lease in each.held_ids()
        }

    # -- caring

    def take_turn(self, key: bytes, span: int) -> bool:
        """Tell whether it is this worker's turn at something done once in ``span`` milliseconds."""
        try:
            with self.links.borrow() as link:
                [answer] = link.call([(b"SET", key, self.broker_id, b"NX", b"PX", span)])
        except BrokerConnectionError as error:
            if not is_out_of_memory(error):
                raise
            # What is taken back may be all that can free some; twice does no harm.
            return True
        return answer is not None

    def expire_dead_letters(self, queue_name: str) -> None:
        """Drop the dead letters of a queue that are older than their time to live."""
        queue = self.layout.queue(queue_name)
        keys = (queue.dead, queue.dead_payloads, queue.dead_reasons)
        while self.links.run([(load("expire_dead"), keys, (self.dead_message_ttl, BATCH))])[0]:
            continue

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue but those that other workers run, dead letters included."""
        for name in (queue_name, dq_name(queue_name)):
            self.do_purge(name)

    def flush_all(self) -> None:
        """Drop all messages of all declared queues but those that other workers run."""
        for queue_name in self.get_declared_queues():
            self.flush(queue_name)

    def join(
        self, queue_name: str, *, interval: int = JOIN_INTERVAL, timeout: int | None = None
    ) -> None:
        """Wait until a queue has nothing left to run, delayed messages included.

        Args:
            queue_name: The queue.
            interval: Milliseconds between two looks.
            timeout: Milliseconds; None or 0 waits for ever.

        Raises:
            QueueJoinTimeout: At the deadline.
        """
        deadline = time.monotonic() + timeout / 1000 if timeout else None
        never = threading.Event()
        while True:
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            if self.do_qsize(queue_name) == 0:
                return
            never.wait(interval / 1000)

    def make_history_store(self) -> RedisStore:
        """Return a store on the server of this broker; see `Broker`."""
        from ...history.stores.redis import RedisStore  # few applications need it

        return RedisStore(client=self.client)

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import RedisInspection  # few processes of an application need it

        return RedisInspection(self)

    @property
    def scripts(self) -> dict[str, Any]:
        """The Lua scripts, by the name of their file."""
        return load_all()

    def close(self) -> None:
        """Give back what is held and close the connections; a next use opens others."""
        with self._lock_of_this_process():
            consumers = list(self._consumers)
        for consumer in consumers:
            consumer.close()
        self.links.close()
