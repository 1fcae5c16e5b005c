"""The broker on RabbitMQ."""

from __future__ import annotations

from .broker import DEAD_MESSAGE_TTL, RabbitmqBroker
from .consumer import RabbitmqConsumer
from .failures import MAX_DECLARE_ATTEMPTS
from .message import RabbitmqMessage
from .sending import MAX_ENQUEUE_ATTEMPTS

__all__ = [
    "DEAD_MESSAGE_TTL",
    "MAX_DECLARE_ATTEMPTS",
    "MAX_ENQUEUE_ATTEMPTS",
    "RabbitmqBroker",
]

#: The names under which plugins know them.
_RabbitmqConsumer = RabbitmqConsumer
_RabbitmqMessage = RabbitmqMessage
