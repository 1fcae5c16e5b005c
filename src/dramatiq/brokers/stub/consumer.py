"""Hands out the messages of one queue of the stub broker. Any thread may settle them."""

from __future__ import annotations

import time
from queue import Empty
from threading import Condition
from typing import TYPE_CHECKING

from ...broker import Consumer, MessageProxy
from ...common import current_millis
from ...delivery import Outcome, Settlement
from ...errors import DecodeError
from ...message import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .broker import StubBroker

__all__ = ["UNDECODABLE", "_StubConsumer", "_StubMessageProxy"]

#: Actor name of dead letters that could not be decoded; their one argument is the raw bytes.
UNDECODABLE = "undecodable"


class _StubMessageProxy(MessageProxy):
    """Keeps its exception for the tests that look at dead letters."""

    def clear_exception(self) -> None:
        """Do nothing."""


class _StubConsumer(Consumer):
    """Hands out messages of one queue. Every method may be called from any thread."""

    def __init__(self, broker: StubBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue = broker.find_queue(queue_name)
        self.dead_letters = broker.dead_letters_by_queue[queue_name]
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        #: Guards ``_outstanding``, the raw messages by their token.
        self._changed = Condition()
        self._outstanding: dict[object, bytes] = {}
        self._is_woken = False
        broker.open_consumers.add(self)

    def __next__(self) -> MessageProxy | None:
        messages = self.fetch(1, self.timeout)
        return messages[0] if messages else None

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Return what is there, within the prefetch; wait for the first."""
        deadline = time.monotonic() + timeout_ms / 1000
        with self._changed:
            self._changed.wait_for(lambda: self._is_woken or self._may_take(), timeout_ms / 1000)
        with self.queue.not_empty:
            # Only if it may: a queue tells one waiter of a message, so that one must take it.
            if self._may_take():
                self.queue.not_empty.wait_for(
                    lambda: self._is_woken or self.queue.queue, deadline - time.monotonic()
                )
            self._is_woken = False
        messages: list[MessageProxy] = []
        while len(messages) < max_messages and self._may_take():
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

    def notice_resume(self) -> None:
        """Go on after the queue was paused."""
        with self._changed:
            self._changed.notify_all()

    def outstanding(self) -> list[bytes]:
        """Return what was handed out and not settled, as it was stored."""
        with self._changed:
            return list(self._outstanding.values())

    def _may_take(self) -> bool:
        has_room = len(self._outstanding) < self.prefetch
        return has_room and self.queue_name not in self.broker.paused_queues

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
        self._add_dead_letter(dead_letter, f"DecodeError: {error.error or error}")
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
            self._add_dead_letter(message, settlement.reason or "rejected")
        else:
            # Nobody looks at it any more; its traceback may hold the message.
            MessageProxy.clear_exception(message)
        self.queue.task_done()
        return True

    def _add_dead_letter(self, message: MessageProxy, reason: str) -> None:
        vars(message).update(_died_at=current_millis(), _reason=reason)
        self.dead_letters.append(message)

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
        self.broker.open_consumers.discard(self)
        with self._changed:
            outstanding = list(self._outstanding.values())
            self._outstanding.clear()
            self._changed.notify_all()
        for data in reversed(outstanding):
            self._put_back(data)
