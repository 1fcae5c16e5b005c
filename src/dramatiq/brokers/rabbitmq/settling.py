"""What has to be stored before a message may be settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...delivery import Outcome
from .identity import derived_id
from .letters import dead_letter

if TYPE_CHECKING:
    from ...delivery import Settlement
    from .broker import RabbitmqBroker
    from .publisher import Outgoing

__all__ = ["consequences_of"]


def consequences_of(
    settlement: Settlement, broker: RabbitmqBroker, queue_name: str
) -> list[Outgoing]:
    """Return what to publish: what follows from a message and, if it is dead, its dead letter."""
    if settlement.outcome is Outcome.REQUEUE:
        return []
    message: Any = settlement.message
    outgoing = [
        broker.outgoing(envelope, derived_id(message._lease, str(number), envelope.payload))
        for number, envelope in enumerate(settlement.envelopes)
    ]
    if settlement.outcome is Outcome.NACK:
        reason = settlement.reason or "rejected"
        delivery_id = message._lease.decode()
        outgoing.append(
            dead_letter(message._delivery, queue_name, delivery_id, reason, settlement.payload)
        )
    return outgoing
