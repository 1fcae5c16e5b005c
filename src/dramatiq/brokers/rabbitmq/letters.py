"""What is published in the place of a message that moves on: dead, parked, due, or to wait.

The headers here are ours; 2.x takes no notice of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...common import current_millis, dq_name, xq_name
from .._store import printable
from .publisher import Outgoing
from .topology import crash_name, park_name

if TYPE_CHECKING:
    from ...message import Message
    from .inlet import Delivery

__all__ = [
    "CRASHES",
    "DIED_AT",
    "PARKED",
    "REASON",
    "crashed",
    "dead_letter",
    "delayed",
    "due",
    "parked",
]

#: Why a dead letter is one.
REASON = "x-dramatiq-reason"
#: When it died, in UNIX epoch milliseconds.
DIED_AT = "x-dramatiq-died-at"
#: How many worker processes a message has brought down.
CRASHES = "x-crashes"
#: Set on what has been in a parking queue.
PARKED = "x-dramatiq-parked"
#: Most bytes of a reason: headers have to fit into one frame, of 4 KiB at least.
MAX_REASON_BYTES = 2000


def dead_letter(
    delivery: Delivery,
    queue_name: str,
    delivery_id: str,
    reason: str,
    payload: bytes | None = None,
) -> Outgoing:
    """Return a dead letter: the payload if there is one, else the message as it was delivered."""
    text = printable(reason).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    headers = _carried(delivery, CRASHES)
    headers.update({REASON: text, DIED_AT: current_millis()})
    return Outgoing(
        xq_name(queue_name),
        delivery.body if payload is None else payload,
        delivery_id[:64],
        delivery.properties.priority,
        headers,
    )


def parked(delivery: Delivery, queue_name: str, delivery_id: str, bucket_ms: int) -> Outgoing:
    """Return a delayed message, unchanged, on its way to a parking queue."""
    # Not the record of the way it came: the server drops what it thinks goes round in circles.
    headers = {**_carried(delivery, CRASHES), PARKED: 1}
    return Outgoing(
        park_name(queue_name, bucket_ms),
        delivery.body,
        delivery_id,
        delivery.properties.priority,
        headers,
    )


def due(delivery: Delivery, message: Message[Any], payload: bytes, delivery_id: str) -> Outgoing:
    """Return a message whose time has come, on its way to its queue."""
    return Outgoing(
        message.queue_name,
        payload,
        delivery_id,
        delivery.properties.priority,
        _carried(delivery, CRASHES) or None,
    )


def delayed(delivery: Delivery, message: Message[Any], delivery_id: str) -> Outgoing:
    """Return a message on its way to the delay queue, because it is not due yet."""
    message = message.copy(queue_name=dq_name(message.queue_name))
    headers = _carried(delivery, CRASHES)
    return Outgoing(
        message.queue_name,
        message.encode(),
        delivery_id,
        delivery.properties.priority,
        headers or None,
    )


def crashed(
    delivery: Delivery, queue_name: str, delivery_id: str, crashes: int, delay_ms: int
) -> Outgoing:
    """Return a message that has brought down so many processes, unchanged, on its way to wait."""
    return Outgoing(
        crash_name(queue_name, delay_ms),
        delivery.body,
        delivery_id,
        delivery.properties.priority,
        {CRASHES: crashes},
    )


def new_id() -> str:
    """Return an id for a message that has none."""
    return os.urandom(16).hex()


def _carried(delivery: Delivery, *names: str) -> dict[str, Any]:
    headers = delivery.headers
    return {name: headers[name] for name in names if name in headers}
