"""Which message a delivery is: the same one however often it is delivered or published."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .inlet import Delivery

__all__ = ["Identity", "derived_id", "digest", "identify"]

_OURS = re.compile(r"[0-9a-f]{32}")


class Identity(NamedTuple):
    """Who a message is."""

    key: bytes
    #: Whether the key is its alone. Messages of 2.x have no id of their own: their bytes have to
    #: do, which tell a message that is delivered again, but not one that was sent twice.
    is_certain: bool

    @property
    def text(self) -> str:
        """The key as AMQP's message-id."""
        return self.key.decode()


def identify(delivery: Delivery) -> Identity:
    """Return who the message of a delivery is."""
    delivery_id = delivery.properties.message_id
    if isinstance(delivery_id, str) and _OURS.fullmatch(delivery_id):
        return Identity(delivery_id.encode(), is_certain=True)
    return Identity(digest(delivery.body).encode(), is_certain=False)


def derived_id(parent: bytes, *parts: str | bytes) -> str:
    """Return the id of what follows from a message.

    The same thing that follows from the same message has the same id, should it be stored twice:
    after a lost connection a message may run again. What differs in anything has another id.
    """
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return digest(b"\x00".join([parent, *encoded]))


def digest(data: bytes) -> str:
    """Return 32 hexadecimal digits that stand for some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
