"""What the tests of a broker share: its declared abilities, its fixtures, ways to look inside."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest

from ..actor import Actor
from ..delivery import Outcome, Settlement
from ..message import Message
from ..middleware import Middleware
from ..worker import Worker
from .waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..broker import Broker, Consumer, MessageProxy

__all__ = ["BrokerSuite", "Ledger", "OpenConsumer", "Recorder", "StartWorker", "StoreError"]

#: Milliseconds after which a test gives up waiting for a queue.
JOIN_TIMEOUT = 20_000


class StoreError(Exception):
    """Raised by tests where a broker's store fails."""


class OpenConsumer(Protocol):
    """The fixture ``open_consumer``."""

    def __call__(self, queue_name: str = "default", *, prefetch: int = 100) -> Consumer:
        """Consume a queue until the end of the test."""


class StartWorker(Protocol):
    """The fixture ``start_worker``."""

    def __call__(self, *, queue_prefetch: int | None = None, **options: Any) -> Worker:
        """Start a worker that is stopped at the end of the test."""


class Ledger:
    """What actors wrote down, in order. Any thread may write."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._changed = threading.Condition()

    def write(self, entry: Any) -> None:
        """Add an entry."""
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()

    def wait_for(self, count: int, *, timeout_s: float = 20) -> list[Any]:
        """Return the entries as soon as there are ``count`` of them."""
        with self._changed:
            is_complete = self._changed.wait_for(lambda: len(self.entries) >= count, timeout_s)
            assert is_complete, f"only {len(self.entries)} of {count} entries: {self.entries[:20]}"
            return list(self.entries)


class Recorder(Middleware):
    """Writes down the hooks that run for messages, as ``(hook, queue_name)``."""

    is_loop_safe = True

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def _record(self, hook: str, message: Any) -> None:
        self.events.append((hook, message.queue_name))

    @property
    def hooks(self) -> list[str]:
        """The names of the hooks that ran."""
        return [hook for hook, _ in self.events]

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Write it down."""
        self._record("before_enqueue" if delay is None else "before_enqueue(delay)", message)

    def after_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Write it down."""
        self._record("after_enqueue" if delay is None else "after_enqueue(delay)", message)

    def before_delay_message(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("before_delay_message", message)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("before_process_message", message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Write down which of the two it was."""
        outcome = "result" if exception is None else "exception"
        self._record(f"after_process_message({outcome})", message)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("after_skip_message", message)

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("before_ack", message)

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("after_ack", message)

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("before_nack", message)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Write it down."""
        self._record("after_nack", message)


class BrokerSuite:
    """Base of the contract's parts. Subclasses declare what their broker can do."""

    #: Whether the broker keeps delayed messages until they are due; else a worker parks them.
    keeps_delays: ClassVar[bool] = False
    #: Whether they are kept apart, and moved to their queue by the consumer of a delay queue, with
    #: the hooks of 2.x around that.
    moves_delays: ClassVar[bool] = False
    #: Whether an operation on an undeclared queue raises `QueueNotFound`.
    checks_queues: ClassVar[bool] = True
    #: Whether a consumer holds no more than ``prefetch`` messages at a time.
    honours_prefetch: ClassVar[bool] = True
    #: Whether `Consumer.wake` ends a waiting fetch.
    supports_wake: ClassVar[bool] = True
    #: Whether settling tells, and changes nothing, when a message is not the consumer's any more.
    fences_settlements: ClassVar[bool] = True
    #: Whether workers register where they write down what they run.
    tells_running: ClassVar[bool] = False
    #: Whether that holds between the deliveries of one message to the same process too.
    tells_deliveries_apart: ClassVar[bool] = True
    #: Whether messages that are given back come before those never fetched.
    requeues_to_front: ClassVar[bool] = True
    #: Whether closing a consumer gives back at once what it had not settled.
    redelivers_on_close: ClassVar[bool] = True
    #: Whether ``dead_payloads`` is implemented.
    supports_dead_letter_inspection: ClassVar[bool] = False
    #: Whether `Broker.inspection` does all that `Inspection` tells.
    supports_inspection: ClassVar[bool] = False
    #: Whether ``store_raw`` is implemented.
    supports_raw_payloads: ClassVar[bool] = False
    #: Milliseconds more than its timeout that a fetch may take.
    fetch_slack: ClassVar[int] = 1000

    # -- what subclasses supply

    @pytest.fixture
    def broker(self) -> Iterator[Broker]:
        """A fresh, empty broker with the default middleware; closed at the end."""
        raise NotImplementedError("supply a fixture named broker")

    def dead_payloads(self, broker: Broker, queue_name: str) -> list[bytes]:
        """Return the payloads of the dead letters of a queue."""
        raise NotImplementedError

    def store_raw(self, broker: Broker, queue_name: str, payload: bytes) -> None:
        """Put bytes into a declared queue that may be no message."""
        raise NotImplementedError

    # -- fixtures

    @pytest.fixture
    def ledger(self) -> Ledger:
        """What actors of the test write down."""
        return Ledger()

    @pytest.fixture
    def recorder(self, broker: Broker) -> Recorder:
        """The last middleware of the broker."""
        recorder = Recorder()
        broker.add_middleware(recorder)
        return recorder

    @pytest.fixture
    def open_consumer(self, broker: Broker) -> Iterator[OpenConsumer]:
        """Consumers that are closed at the end."""
        consumers: list[Consumer] = []

        def open_consumer(queue_name: str = "default", *, prefetch: int = 100) -> Consumer:
            broker.declare_queue(queue_name)
            consumers.append(broker.consume(queue_name, prefetch=prefetch, timeout=100))
            return consumers[-1]

        yield open_consumer
        for consumer in consumers:
            consumer.close()

    @pytest.fixture
    def start_worker(self, broker: Broker) -> Iterator[StartWorker]:
        """Workers that are stopped at the end."""
        workers: list[Worker] = []

        def start_worker(*, queue_prefetch: int | None = None, **options: Any) -> Worker:
            worker = Worker(broker, **{"worker_timeout": 100, **options})
            if queue_prefetch is not None:
                worker.queue_prefetch = queue_prefetch
            workers.append(worker)
            worker.start()
            return worker

        yield start_worker
        for worker in workers:
            worker.stop(timeout=10_000)

    # -- helpers

    def make_message(self, *args: Any, **fields: Any) -> Message[Any]:
        """Return a message for actor ``work`` in queue ``default``, unless told otherwise."""
        defaults: dict[str, Any] = {
            "queue_name": "default",
            "actor_name": "work",
            "args": args,
            "kwargs": {},
            "options": {},
        }
        return Message(**{**defaults, **fields})

    def declare(
        self, broker: Broker, fn: Callable[..., Any], name: Any = "work", **options: Any
    ) -> Actor[..., Any]:
        """Make an actor of a function; in queue ``default`` unless told otherwise."""
        fields = {key: options.pop(key, default) for key, default in _ACTOR_FIELDS.items()}
        return Actor(fn, broker=broker, actor_name=name, options=options, **fields)

    def fill(self, broker: Broker, count: int, queue_name: str = "default") -> list[str]:
        """Put so many messages into a queue; return their ids in order."""
        broker.declare_queue(queue_name)
        messages = [self.make_message(i, queue_name=queue_name) for i in range(count)]
        return [message.message_id for message in broker.enqueue_many(messages)]

    def take(self, consumer: Consumer, count: int) -> list[MessageProxy]:
        """Fetch until there are so many messages."""
        messages: list[MessageProxy] = []

        def has_enough() -> bool:
            messages.extend(consumer.fetch(count - len(messages), 100))
            return len(messages) >= count

        wait_until(has_enough)
        assert len(messages) == count
        return messages

    def settle(self, consumer: Consumer, messages: list[MessageProxy], outcome: Outcome) -> None:
        """Settle all of them alike."""
        settled = consumer.settle([Settlement(message, outcome) for message in messages])
        assert settled == [True] * len(messages)

    def assert_empty(self, consumer: Consumer) -> None:
        """Check that there is nothing to fetch."""
        assert consumer.fetch(10, 50) == []

    def fetch_for(self, consumer: Consumer, timeout_ms: int) -> float:
        """Fetch from an empty queue; return how many milliseconds that took."""
        started_at = time.monotonic()
        assert consumer.fetch(10, timeout_ms) == []
        return (time.monotonic() - started_at) * 1000


_ACTOR_FIELDS: dict[str, Any] = {"queue_name": "default", "priority": 0}


def ids_of(messages: list[Any]) -> list[str]:
    """Return the ids of messages, in order."""
    return [message.message_id for message in messages]
