"""A broker in memory: the reference semantics, and the broker for an application's tests.

Messages are kept encoded, as on a real broker, so that what cannot be encoded fails here too.
Delayed messages wait in the queue's delay queue until a worker takes them and holds them until
they are due.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ...broker import Broker, Consumer, MessageProxy
from ...common import current_millis, dq_name, iter_queue, join_queue
from ...errors import QueueJoinTimeout, QueueNotFound
from ...inspection import AUDIT_SIZE
from ...mistakes import close_match
from ...threading import Queue
from .consumer import _StubConsumer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...history.stores.stub import StubStore
    from ...inspection import AuditEntry, Inspection
    from ...message import Message
    from ...workflows.store import WorkflowStore

__all__ = ["StubBroker"]


class _UnknownQueue(QueueNotFound, KeyError):
    """What 2.x raises in both ways, depending on the method."""


class StubBroker(Broker):
    """A broker that lives and dies with this process.

    Args:
        middleware: See `Broker`.
        fail_fast_default: Whether `join` raises what made a message fail, unless told otherwise.

    Attributes:
        queues: Queues and delay queues by name; each a `queue.Queue` of encoded messages.
        dead_letters_by_queue: Dead letters by the queue they were consumed from.
    """

    is_in_memory = True
    queues: dict[str, Queue[bytes]]

    def __init__(
        self, middleware: Iterable[Any] | None = None, *, fail_fast_default: bool = True
    ) -> None:
        super().__init__(middleware)
        self.fail_fast_default = fail_fast_default
        self.dead_letters_by_queue: defaultdict[str, list[MessageProxy]] = defaultdict(list)
        #: Held by whoever takes dead letters out of those lists.
        self.dead_letters_lock = Lock()
        #: Names of queues of which nothing is handed out.
        self.paused_queues: set[str] = set()
        #: What was done through the dashboard, the newest first.
        self.audit_log: deque[AuditEntry] = deque(maxlen=AUDIT_SIZE)
        #: The consumers that are open.
        self.open_consumers: WeakSet[_StubConsumer] = WeakSet()

    @property
    def dead_letters(self) -> list[MessageProxy]:
        """All dead letters of all queues."""
        return list(chain.from_iterable(self.dead_letters_by_queue.values()))

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue and its delay queue; harmless when they are declared already."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = Queue()
        self.emit_after("declare_queue", queue_name)
        delay_queue_name = dq_name(queue_name)
        self.queues[delay_queue_name] = Queue()
        self.delay_queues.add(delay_queue_name)
        self.emit_after("declare_delay_queue", delay_queue_name)

    def find_queue(self, queue_name: str) -> Queue[bytes]:
        """Return a queue or a delay queue.

        Raises:
            QueueNotFound: If it was not declared.
        """
        try:
            return self.queues[queue_name]
        except KeyError:
            error = _UnknownQueue(queue_name)
            known = ", ".join(sorted(self.get_declared_queues() - self.delay_queues)) or "none"
            error.add_note(
                f"No actor declares a queue {queue_name!r} (known: {known})."
                + close_match(queue_name, self.queues)
            )
            raise error from None

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store ``message``; see `Broker.enqueue`.

        Raises:
            QueueNotFound: If its queue was not declared.
        """
        queue_name = message.queue_name if delay is None else dq_name(message.queue_name)
        queue = self.find_queue(queue_name)
        if delay is not None:
            eta = current_millis() + delay
            message = message.copy(queue_name=queue_name, options={"eta": eta})
        self.emit_before("enqueue", message, delay)
        queue.put(message.encode())
        self.emit_after("enqueue", message, delay)
        return message

    async def enqueue_async(
        self, message: Message[Any], *, delay: int | None = None
    ) -> Message[Any]:
        """Store ``message``; nothing here blocks."""
        return self.enqueue(message, delay=delay)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Return a consumer; see `Broker.consume`.

        Raises:
            QueueNotFound: If the queue was not declared.
        """
        return _StubConsumer(self, queue_name, prefetch, timeout)

    def make_history_store(self) -> StubStore:
        """Return a store in memory; see `Broker`."""
        from ...history.stores.stub import StubStore  # few applications need it

        return StubStore()

    def make_workflow_store(self) -> WorkflowStore:
        """Return where workflows are kept: in memory, like messages."""
        from ...workflows.stores.memory import MemoryStore  # few tests need it

        return MemoryStore()

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import StubInspection  # few tests need it

        return StubInspection(self)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of one queue; its delay queue is another one.

        Raises:
            QueueNotFound: If the queue was not declared; it is a `KeyError` too, as in 2.x.
        """
        queue = self.find_queue(queue_name)
        for _ in iter_queue(queue):
            queue.task_done()

    def flush_all(self) -> None:
        """Drop all messages of all queues, and all dead letters."""
        for queue_name in self.queues:
            self.flush(queue_name)
        # In place: consumers hold on to these lists.
        with self.dead_letters_lock:
            for dead_letters in self.dead_letters_by_queue.values():
                dead_letters.clear()

    def join(
        self,
        queue_name: str,
        *,
        timeout: int | None = None,
        fail_fast: bool | None = None,
    ) -> None:
        """Wait until a queue and its delay queue have nothing left to run.

        Args:
            queue_name: The queue.
            timeout: Milliseconds; None or 0 waits for ever.
            fail_fast: Whether to raise what made the first dead letter of the queue fail; None
                means `fail_fast_default`.

        Raises:
            QueueNotFound: If the queue was not declared.
            QueueJoinTimeout: At the deadline.
        """
        deadline = time.monotonic() + timeout / 1000 if timeout else None
        queues = [self.find_queue(queue_name), self.find_queue(dq_name(queue_name))]
        # A message of one may put another into the other, so look until both are done at once.
        while any(queue.unfinished_tasks for queue in queues):
            for queue in queues:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise QueueJoinTimeout(queue_name)
                join_queue(queue, timeout=remaining)
        if self.fail_fast_default if fail_fast is None else fail_fast:
            for dead_letter in self.dead_letters_by_queue[queue_name]:
                exception = dead_letter._exception
                raise exception or Exception("Message failed with an unknown error.")
