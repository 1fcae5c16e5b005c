"""A broker in memory: the reference semantics, and the broker for an application's tests.

Messages are kept encoded, as on a real broker, so that what cannot be encoded fails here too.
Delayed messages wait in the queue's delay queue until a worker takes them and holds them until
they are due.
"""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import chain
from queue import Empty
from threading import Condition
from typing import TYPE_CHECKING, Any

from ..broker import Broker, Consumer, MessageProxy
from ..common import current_millis, dq_name, iter_queue, join_queue
from ..delivery import Outcome, Settlement
from ..errors import DecodeError, QueueJoinTimeout, QueueNotFound
from ..message import Message
from ..threading import Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["StubBroker"]

#: Actor name of dead letters that could not be decoded; their one argument is the raw bytes.
UNDECODABLE = "undecodable"


class StubBroker(Broker):
    """A broker that lives and dies with this process.

    Args:
        middleware: See `Broker`.
        fail_fast_default: Whether `join` raises what made a message fail, unless told otherwise.

    Attributes:
        queues: Queues and delay queues by name; each a `queue.Queue` of encoded messages.
        dead_letters_by_queue: Dead letters by the queue they were consumed from.
    """

    queues: dict[str, Queue[bytes]]

    def __init__(
        self, middleware: Iterable[Any] | None = None, *, fail_fast_default: bool = True
    ) -> None:
        super().__init__(middleware)
        self.fail_fast_default = fail_fast_default
        self.dead_letters_by_queue: defaultdict[str, list[MessageProxy]] = defaultdict(list)

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

    def _queue(self, queue_name: str) -> Queue[bytes]:
        try:
            return self.queues[queue_name]
        except KeyError:
            raise QueueNotFound(queue_name) from None

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store ``message``; see `Broker.enqueue`.

        Raises:
            QueueNotFound: If its queue was not declared.
        """
        queue_name = message.queue_name if delay is None else dq_name(message.queue_name)
        queue = self._queue(queue_name)
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
        return _StubConsumer(
            self._queue(queue_name),
            self.dead_letters_by_queue[queue_name],
            queue_name,
            prefetch,
            timeout,
        )

    def flush(self, queue_name: str) -> None:
        """Drop all messages of one queue; its delay queue is another one."""
        queue = self.queues[queue_name]
        for _ in iter_queue(queue):
            queue.task_done()

    def flush_all(self) -> None:
        """Drop all messages of all queues, and all dead letters."""
        for queue_name in self.queues:
            self.flush(queue_name)
        # In place: consumers hold on to these lists.
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
        queues = [self._queue(queue_name), self._queue(dq_name(queue_name))]
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


class _StubMessageProxy(MessageProxy):
    """Keeps its exception for the tests that look at dead letters."""

    def clear_exception(self) -> None:
        """Do nothing."""


class _StubConsumer(Consumer):
    """Hands out messages of one queue. Every method may be called from any thread."""

    def __init__(
        self,
        queue: Queue[bytes],
        dead_letters: list[MessageProxy],
        queue_name: str,
        prefetch: int,
        timeout: int,
    ) -> None:
        self.queue = queue
        self.dead_letters = dead_letters
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        #: Guards ``_outstanding``, the raw messages by their token.
        self._changed = Condition()
        self._outstanding: dict[object, bytes] = {}
        self._is_woken = False

    def __next__(self) -> MessageProxy | None:
        messages = self.fetch(1, self.timeout)
        return messages[0] if messages else None

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Return what is there, within the prefetch; wait for the first."""
        deadline = time.monotonic() + timeout_ms / 1000
        with self._changed:
            self._changed.wait_for(lambda: self._is_woken or self._room() > 0, timeout_ms / 1000)
        with self.queue.not_empty:
            # Only with room: a queue tells one waiter of a message, so that one must take it.
            if self._room() > 0:
                self.queue.not_empty.wait_for(
                    lambda: self._is_woken or self.queue.queue, deadline - time.monotonic()
                )
            self._is_woken = False
        messages: list[MessageProxy] = []
        while len(messages) < min(max_messages, self._room()):
            try:
                data = self.queue.get_nowait()
            except Empty:
                break
            message = self._receive(data)
            if message is not None:
                messages.append(message)
        return messages

    def wake(self) -> None:
        """Make a waiting `fetch`, or else the next one, return at once."""
        self._is_woken = True
        for condition in (self._changed, self.queue.not_empty):
            with condition:
                condition.notify_all()

    def _room(self) -> int:
        return self.prefetch - len(self._outstanding)

    def _receive(self, data: bytes) -> MessageProxy | None:
        try:
            message = _StubMessageProxy(Message.decode(data))
        except DecodeError as error:
            self._bury(data, error)
            return None
        message._lease = object()
        with self._changed:
            self._outstanding[message._lease] = data
        return message

    def _bury(self, data: bytes, error: DecodeError) -> None:
        """Keep what cannot be decoded among the dead letters: it must not stop its neighbours."""
        dead_letter = _StubMessageProxy(
            Message(
                queue_name=self.queue_name,
                actor_name=UNDECODABLE,
                args=(data,),
                kwargs={},
                options={},
            )
        )
        dead_letter.fail()
        dead_letter.stuff_exception(error)
        self.dead_letters.append(dead_letter)
        self.queue.task_done()

    def _release(self, message: MessageProxy) -> bytes | None:
        with self._changed:
            data = self._outstanding.pop(message._lease, None)
            self._changed.notify_all()
        return data

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle one by one; False for a message that this consumer no longer holds."""
        indexes = range(len(settlements))
        given_back = [i for i in indexes if settlements[i].outcome is Outcome.REQUEUE]
        others = [i for i in indexes if settlements[i].outcome is not Outcome.REQUEUE]
        # The last of them first: each one that is given back goes to the front.
        order = [*others, *reversed(given_back)]
        settled = {index: self._settle(settlements[index]) for index in order}
        return [settled[index] for index in indexes]

    def _settle(self, settlement: Settlement) -> bool:
        message = settlement.message
        data = self._release(message)
        if data is None:
            return False
        if settlement.outcome is Outcome.REQUEUE:
            self._put_back(data)
            return True
        if settlement.outcome is Outcome.NACK:
            self.dead_letters.append(message)
        else:
            # Nobody looks at it any more; its traceback may hold the message.
            MessageProxy.clear_exception(message)
        self.queue.task_done()
        return True

    def _put_back(self, data: bytes) -> None:
        """Put a message at the front; it still counts as unfinished, so not by Queue.put."""
        with self.queue.mutex:
            self.queue.queue.appendleft(data)
            self.queue.not_empty.notify()

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good; harmless for one that is not held."""
        self._settle(Settlement(message, Outcome.ACK))

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        self._settle(Settlement(message, Outcome.NACK))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to the front of their queue, in their order."""
        self.settle([Settlement(message, Outcome.REQUEUE) for message in messages])

    def recover(self) -> bool:
        """Nothing here can be lost."""
        return True

    def close(self) -> None:
        """Give everything that was not settled back to the queue."""
        with self._changed:
            outstanding = list(self._outstanding.values())
            self._outstanding.clear()
            self._changed.notify_all()
        for data in reversed(outstanding):
            self._put_back(data)
