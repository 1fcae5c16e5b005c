"""The broker on RabbitMQ."""

from __future__ import annotations

from .broker import DEAD_MESSAGE_TTL, RabbitmqBroker
from .consumer import RabbitmqConsumer
from .message import RabbitmqMessage
from .sending import MAX_ENQUEUE_ATTEMPTS

__all__ = [
    "DEAD_MESSAGE_TTL",
    "MAX_DECLARE_ATTEMPTS",
    "MAX_ENQUEUE_ATTEMPTS",
    "RabbitmqBroker",
]

#: How often declaring a queue is tried in all.
MAX_DECLARE_ATTEMPTS = 2

#: The names under which plugins know them.
_RabbitmqConsumer = RabbitmqConsumer
_RabbitmqMessage = RabbitmqMessage
