"""What brokers have in common that keep delays and dead letters in their own store.

A message is prepared in the caller's thread: copied, hooks, encoded. Prepared messages are then
stored, many in one step; or, inside the process hooks of another message, they wait for that
message's settlement and are stored with it.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from ..broker import Broker, MessageProxy
from ..common import current_millis, q_name
from ..delivery import Envelope, current_follow_ups
from ..errors import DecodeError
from ..inspection import DeadLetter, Selection, State
from ..message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..inspection import QueueCounts

__all__ = [
    "MAX_CRASHES",
    "StoreBroker",
    "decode",
    "delay_after_crash",
    "new_delivery_ids",
    "poison_reason",
    "printable",
]

#: How many processes a message may bring down before it is dead.
MAX_CRASHES = 3
#: Milliseconds that a message waits at least which has brought down one process, two, and more.
CRASH_DELAYS_MS = (1_000, 10_000)
#: By what part of that delay those that ran together are spread. The first spread is the smaller
#: one: a death is to be healed within 2 seconds, and most were not brought about by a message.
CRASH_SPREADS = (0.25, 0.5)

#: Most characters of a reason that are stored beside a dead letter.
_MAX_REASON = 2000
#: Whatever holds anything else in these fields is no message, however well it was decoded.
FIELD_TYPES: dict[str, type] = {
    "queue_name": str,
    "actor_name": str,
    "message_id": str,
    "kwargs": dict,
    "options": dict,
}


def new_delivery_ids() -> Iterator[bytes]:
    """Yield ids of 16 bytes, unique and rising with time, so that they are cheap to index.

    Six bytes of milliseconds, as in UUID version 7 (RFC 9562, section 5.7), six random ones for
    this call, and a counter.
    """
    prefix = (time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(6)
    return (prefix + number.to_bytes(4, "big") for number in count())


class StoreBroker(Broker):
    """Base class of brokers that settle messages together with what follows from them."""

    stores_follow_ups = True

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue; harmless when it is declared already."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = None
        self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store ``message``; see `Broker.enqueue`.

        Inside a process hook of a message that this broker settles, it is stored together with
        that settlement.

        Raises:
            TypeError: If the message cannot be encoded.
            BrokerConnectionError: If it could not be stored.
        """
        return self.enqueue_many([message], delay=delay)[0]

    def enqueue_many(
        self, messages: Iterable[Message[Any]], *, delay: int | None = None
    ) -> list[Message[Any]]:
        """Store many messages in one step; all of them or, if it raises, none."""
        ids = new_delivery_ids()
        envelopes = [self._prepare(message, delay, next(ids)) for message in messages]
        follow_ups = current_follow_ups()
        if follow_ups is not None and follow_ups.store is self:
            follow_ups.envelopes.extend(envelopes)
        else:
            self._store(envelopes)
            self.announce_stored(envelopes)
        return [envelope.message for envelope in envelopes]

    async def enqueue_async(
        self, message: Message[Any], *, delay: int | None = None
    ) -> Message[Any]:
        """Store ``message`` without blocking the running event loop."""
        envelope = self._prepare(message, delay, next(new_delivery_ids()))
        await self._store_async([envelope])
        self.announce_stored([envelope])
        return envelope.message

    def preparer(self) -> Callable[[Message[Any], int | None], Envelope]:
        """Return what makes messages ready to be stored by whoever stores them with something else.

        It is called with a message and its delay, and runs the hooks before its enqueue;
        `announce_stored` runs those after it.
        """
        ids = new_delivery_ids()
        return lambda message, delay: self._prepare(message, delay, next(ids))

    def _prepare(
        self, message: Message[Any] | MessageProxy, delay: int | None, delivery_id: bytes
    ) -> Envelope:
        if isinstance(message, MessageProxy):
            message = message._message
        if delay is not None or message.queue_name not in self.queues:
            message = self._address(message, delay)
        self.emit_before("enqueue", message, delay)
        eta = message.options.get("eta")
        return Envelope(
            message,
            message.encode(),
            delivery_id=delivery_id,
            delay=delay,
            eta=int(eta) if isinstance(eta, (int, float)) else None,
            priority=self._priority(message),
        )

    def _address(self, message: Message[Any], delay: int | None) -> Message[Any]:
        """Return a copy on its canonical queue, with the eta its delay gives."""
        message = message.copy(queue_name=q_name(message.queue_name))
        if delay is not None:
            message = message.copy(options={"eta": current_millis() + delay})
        return message

    def _priority(self, message: Message[Any]) -> int:
        """Lower comes first: the negated option ``broker_priority``, else the actor's priority."""
        broker_priority = message.options.get("broker_priority")
        if broker_priority is not None:
            return -int(broker_priority)
        actor = self.actors.get(message.actor_name)
        return 0 if actor is None else actor.priority

    def announce_stored(self, envelopes: Sequence[Envelope]) -> None:
        """Run the hooks after messages were enqueued."""
        if self.chain.after("after_enqueue"):
            for envelope in envelopes:
                self.emit_after("enqueue", envelope.message, envelope.delay)

    def queue_counts(self, queue_name: str) -> QueueCounts:
        """Return how many messages of a queue are in which state."""
        return self.inspection.queue(queue_name).counts

    def dead_letters(self, queue_name: str, *, limit: int = 1000) -> list[DeadLetter]:
        """Return dead letters of a queue, the newest first."""
        page = self.inspection.messages(State.DEAD, Selection(queue_name), limit=limit)
        return [
            DeadLetter(info.queue_name, info.payload, info.reason or "", info.died_at or 0)
            for info in page.items
        ]

    def _store(self, envelopes: Sequence[Envelope]) -> None:
        """Store all of them or raise; storing one again changes nothing."""
        raise NotImplementedError

    async def _store_async(self, envelopes: Sequence[Envelope]) -> None:
        """Do as `_store` does, without blocking the running event loop."""
        raise NotImplementedError


def decode(payload: bytes) -> Message[Any]:
    """Decode a message and check what workers take for granted.

    Raises:
        DecodeError: If it is no message.
    """
    message = Message.decode(payload)
    if (
        type(message.queue_name) is str
        and type(message.actor_name) is str
        and type(message.message_id) is str
        and type(message.kwargs) is dict
        and type(message.options) is dict
    ):
        return message
    for name, expected in FIELD_TYPES.items():
        value = getattr(message, name)
        if not isinstance(value, expected):
            found = type(value).__name__
            raise DecodeError(f"{name} is {found}, not {expected.__name__}", payload, None)
    return message


def delay_after_crash(crashes: int, rank: int, suspects: int) -> int:
    """Return for how many milliseconds a message waits that was running when a process died.

    Those that ran together must not come back together: the innocent ones would run beside the
    other one again, and share its fate. So they are spread, and whoever had been running for
    longest, least likely to have caused it, comes first.

    Args:
        crashes: How many processes have died while it ran.
        rank: Its place among those that ran when this one died, from 0.
        suspects: How many these were.
    """
    row = min(crashes, len(CRASH_DELAYS_MS)) - 1
    return int(CRASH_DELAYS_MS[row] * (1 + CRASH_SPREADS[row] * rank / suspects))


def poison_reason(max_crashes: int) -> str:
    """Return why a message is dead that has brought down too many processes."""
    return f"poison: {max_crashes} processes died while they ran it"


def printable(text: str) -> str:
    """Return the beginning of a text, with what cannot be printed or stored written as escapes."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in text[:_MAX_REASON]
    )
