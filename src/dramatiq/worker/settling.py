"""Hooks around settling a message, and the box in which settlements wait for their consumer.

`Inbox.put` may be called from any thread; everything else of it belongs to the consumer's thread.
"""

from __future__ import annotations

from collections import deque
from threading import Event
from typing import TYPE_CHECKING

from ..delivery import Outcome, Settlement
from ..logging import get_logger
from ..threading import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..broker import Broker

__all__ = ["Confirmation", "Inbox", "announce", "conclude", "wants_confirmation"]

logger = get_logger("dramatiq.worker", "ConsumerThread")

_HOOK = {Outcome.ACK: "ack", Outcome.NACK: "nack"}


def announce(broker: Broker, settlement: Settlement) -> bool:
    """Run the hooks before settling; False if one of them forbids it.

    The message is then left as it is: its broker delivers it again when this consumer closes.
    """
    signal = _HOOK.get(settlement.outcome)
    if signal is None:
        return True
    try:
        broker.emit_before(signal, settlement.message)
    except Exception:
        logger.exception("A before_%s hook kept %s from settling.", signal, settlement.message)
        return False
    return True


def wants_confirmation(broker: Broker, settlement: Settlement) -> bool:
    """Tell whether anybody's hook waits for the broker's word on this settlement."""
    signal = _HOOK.get(settlement.outcome)
    if signal is None:
        return False
    chain = broker.chain
    if chain.after(f"after_{signal}"):
        return True
    return bool(settlement.envelopes) and bool(chain.after("after_enqueue"))


def conclude(broker: Broker, settlement: Settlement, settled: bool) -> None:
    """Run the hooks after the broker confirmed; none if the message was no longer ours."""
    signal = _HOOK.get(settlement.outcome)
    if signal is not None and settled:
        for envelope in settlement.envelopes:
            broker.emit_after("enqueue", envelope.message, envelope.delay)
        broker.emit_after(signal, settlement.message)
    settlement.message._follow_ups = None


class Confirmation:
    """Lets one thread wait for the outcome of a settlement."""

    __slots__ = ("_answered", "settled")

    def __init__(self, settlement: Settlement) -> None:
        self._answered = Event()
        self.settled = False
        settlement.on_settled = self._answer

    def _answer(self, settled: bool) -> None:
        self.settled = settled
        self._answered.set()

    def wait(self, is_possible: Callable[[], bool]) -> bool:
        """Wait until it is there, for as long as ``is_possible`` says it may still come."""
        while True:
            try:
                if self._answered.wait(1) or not is_possible():
                    return self._answered.is_set()
            except Interrupt:
                # It was meant for the actor, which is done; only settling is left.
                continue


class Inbox:
    """Settlements that wait for the consumer's thread, which is woken if it is waiting too."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._settlements: deque[Settlement] = deque()
        self._wake = wake
        self._owner_is_waiting = False

    def put(self, *settlements: Settlement) -> None:
        """Leave settlements, which are carried out together. Any thread."""
        # One step, so that the owner finds all of them or none.
        self._settlements.extend(settlements)
        # The owner sets the flag before it looks a last time, so one of us sees the other.
        if self._owner_is_waiting:
            self._wake()

    def drain(self) -> list[Settlement]:
        """Take everything out."""
        settlements = []
        while self._settlements:
            settlements.append(self._settlements.popleft())
        return settlements

    def about_to_wait(self) -> bool:
        """Announce that the owner is going to wait; False if it should not, as there is news."""
        self._owner_is_waiting = True
        return not self._settlements

    def done_waiting(self) -> None:
        """Take back `about_to_wait`."""
        self._owner_is_waiting = False

    def __len__(self) -> int:
        return len(self._settlements)
