"""What brokers and consumers have in common that lease rows of a table to a process.

What was handed out is known by its lease. A reply may be lost, so what the store says we hold is
compared with that from time to time. Belongs to the consumer's thread, but for `wake`.
"""

from __future__ import annotations

import abc
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..broker import Consumer, MessageProxy
from ..common import q_name
from ..delivery import Outcome, Settlement
from ..errors import BrokerConnectionError, ConnectionClosed, DecodeError, QueueJoinTimeout
from ._store import StoreBroker, decode, printable

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["LeasingBroker", "LeasingConsumer", "Undecodable"]

#: Seconds between two comparisons of what the store says we hold with what we hold.
RECONCILE_S = 10.0
#: Seconds after which a difference that was found must be found again to count.
CONFIRM_S = 1.0

#: What tells one message of the table from the others.
L = TypeVar("L", int, bytes)
#: The lease of a message that is none, and why.
Undecodable = tuple[L, str]


class LeasingBroker(StoreBroker):
    """Base class of brokers that keep messages in a table."""

    #: Milliseconds between two looks at whether a joined queue has something left.
    join_interval = 50

    def flush_all(self) -> None:
        """Drop all messages of all declared queues but those that are being run."""
        for queue_name in list(self.queues):
            self.flush(queue_name)

    def join(
        self, queue_name: str, *, timeout: int | None = None, interval: int | None = None
    ) -> None:
        """Wait until a queue has nothing left to run, delayed messages included.

        Args:
            queue_name: The queue.
            timeout: Milliseconds; None or 0 waits for ever.
            interval: Milliseconds between two looks; as the broker sees fit by default.

        Raises:
            QueueJoinTimeout: At the deadline.
        """
        deadline = time.monotonic() + timeout / 1000 if timeout else None
        never = threading.Event()
        while self._is_busy(q_name(queue_name)):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)
            never.wait((self.join_interval if interval is None else interval) / 1000)

    def _is_busy(self, queue_name: str) -> bool:
        """Tell whether a queue has something left to run."""
        raise NotImplementedError


class LeasingConsumer(Consumer, abc.ABC, Generic[L]):
    """Keeps what was handed out, and settles many at a time.

    Args:
        broker: The broker; with a ``membership`` and ``consumers``.
        logger: Of the consumer.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    is_owned = True

    def __init__(
        self, broker: Any, logger: logging.Logger, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        self.logger = logger
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        self.owner = broker.membership.owner()
        #: What was handed out and not settled, by lease. The object itself tells one delivery from
        #: another of the same message: only the latest can be settled.
        self._held: dict[L, MessageProxy] = {}
        self._unknown: set[L] = set()
        self._reconcile_at = time.monotonic() + RECONCILE_S
        self._is_woken = False
        self._is_struck_off = False
        broker.consumers.add(self)

    # -- what depends on the store

    @abc.abstractmethod
    def _find_held(self) -> set[L]:
        """Return the leases of this queue that the store says this process has."""

    @abc.abstractmethod
    def _give_back(self, leases: Iterable[L]) -> None:
        """Put messages back into their queue."""

    @abc.abstractmethod
    def _settle_one(self, settlement: Settlement) -> list[bool]:
        """Settle one in a transaction of its own."""

    @abc.abstractmethod
    def _write(self, operation: Callable[[Any], None]) -> None:
        """Carry out an operation in a transaction."""

    # -- the contract of 2.x

    def __next__(self) -> MessageProxy | None:
        if len(self._held) >= self.prefetch:
            self._pause(self.timeout)
            return None
        messages = self.fetch(1, self.timeout)
        return messages[0] if messages else None

    @abc.abstractmethod
    def _pause(self, timeout_ms: float) -> None:
        """Wait until something is settled, which somebody else has to do."""

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good; harmless for one that is not held."""
        self.settle([Settlement(message, Outcome.ACK)])

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        self.settle([Settlement(message, Outcome.NACK)])

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to their places in the queue."""
        self.settle([Settlement(message, Outcome.REQUEUE) for message in messages])

    def recover(self) -> bool:
        """Tell whether our leases are still ours: errors of the store do not end them."""
        # What was taken before the error may not have arrived here.
        self._reconcile_at = 0.0
        return not self._is_struck_off

    def close(self) -> None:
        """Give back everything that was not settled."""
        held, self._held = self._held, {}
        self.broker.consumers.discard(self)
        if held:
            self._give_back(held)

    # -- many at a time

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Take up to so many messages; wait for the first."""
        return self.exchange([], max_messages, timeout_ms)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle all in one transaction."""
        return self.exchange(settlements, 0, 0)[0]

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Store, in one transaction, what is to be there before a workflow goes on."""
        operations = [operation for each in settlements for _, operation in each.operations]
        if not operations:
            return

        def operate(transaction: Any) -> None:
            for operation in operations:
                operation(transaction)

        self._write(operate)
        for each in settlements:
            each.operations.clear()

    def _refuse_if_struck_off(self) -> None:
        if self._is_struck_off:
            self.broker.membership.disown(self.owner)
            raise ConnectionClosed(
                f"worker {self.owner} was taken for dead and its messages were given to others; "
                "it goes on as a new one"
            )

    def _admit(
        self, rows: Iterable[tuple[L, bytes]]
    ) -> tuple[list[MessageProxy], list[Undecodable[L]]]:
        """Return messages that were taken, from now on held, and what is none."""
        messages = []
        bad = []
        for lease, payload in rows:
            try:
                message = decode(payload)
            except DecodeError as error:
                bad.append((lease, self._tell_undecodable(payload, error)))
                continue
            # Due by now, or it would not have been taken; workers would wait for it again.
            if isinstance(message.options.get("eta"), (int, float)):
                del message.options["eta"]
            proxy = MessageProxy(message)
            proxy._lease = lease
            self._held[lease] = proxy
            messages.append(proxy)
        return messages, bad

    def _tell_undecodable(self, payload: bytes, error: DecodeError) -> str:
        """Log that something is no message; return the reason of its dead letter."""
        why = printable(str(error.error or error))
        self.logger.error(
            "Message in queue %r cannot be decoded; its %d bytes go to the dead letters as they "
            "are. Was it written by hand, or with another encoder? %s",
            self.queue_name,
            len(payload),
            why,
        )
        return f"DecodeError: {why}"

    def _bury_by(self, operation: Callable[[Any], None]) -> None:
        """Move what cannot be decoded to the dead letters."""
        try:
            self._write(operation)
        except BrokerConnectionError as error:
            # Raising would take the good ones along. These are leased and nobody knows of them,
            # so they go back to the queue before long and come here again.
            self.logger.warning("They cannot be moved now: %s", error)

    def _settle_apart(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle one by one, so that what cannot be stored for one does not hold up the others."""
        settled: list[bool] = []
        for each in settlements:
            try:
                settled += self._settle_one(each)
            except BrokerConnectionError:
                raise
            except Exception as error:
                self.logger.exception(
                    "What follows from message %s cannot be stored; it goes to the dead letters.",
                    each.message,
                )
                each.message._follow_ups = None
                reason = f"its consequences cannot be stored: {type(error).__name__}: {error}"
                settled += self._settle_one(Settlement(each.message, Outcome.NACK, reason=reason))
            self._forget(each.message)
        return settled

    # -- what is held

    def _is_held(self, message: MessageProxy) -> bool:
        return self._held.get(message._lease) is message

    def _forget(self, message: MessageProxy) -> None:
        if self._is_held(message):
            del self._held[message._lease]

    def _reconcile(self) -> None:
        """Give back leases that we do not know of, seen twice in a row: a reply was lost."""
        now = time.monotonic()
        if now < self._reconcile_at:
            return
        unknown = self._find_held()
        # Other workers of this process share our registration.
        for consumer in list(self.broker.consumers):
            unknown.difference_update(list(consumer._held))
        strays = unknown & self._unknown
        if strays:
            self.logger.warning("Giving back %d messages that we did not know of.", len(strays))
            self._give_back(strays)
        self._unknown = unknown - strays
        self._reconcile_at = now + (CONFIRM_S if self._unknown else RECONCILE_S)
