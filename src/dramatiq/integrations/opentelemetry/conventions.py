"""What spans and measurements say of a message: the one table of names, and their values. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...common import q_name

if TYPE_CHECKING:
    from ...broker import Broker, MessageProxy
    from ...message import Message

__all__ = ["Conventions", "error_type_of", "integer"]

# The attributes, as of the conventions 1.30, which still count as in development:
# https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
MESSAGE_ID = "messaging.message.id"
ERROR_TYPE = "error.type"
#: What the conventions up to 1.24 had in place of the two above.
OLD_OPERATION = "messaging.operation"
#: The names that the operations had there.
OLD_NAMES = {"send": "publish", "process": "process"}
# No convention knows these.
ACTOR = "dramatiq.actor"
RETRIES = "dramatiq.retries"
DELAY = "dramatiq.delay_ms"

#: Environment variable by which users ask for old attributes beside the new ones.
OPT_IN_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"


class Conventions:
    """The attributes as the environment wants them when this is made."""

    def __init__(self) -> None:
        opted_in = os.environ.get(OPT_IN_VARIABLE, "").split(",")
        self._adds_old_names = "messaging/dup" in {each.strip() for each in opted_in}

    def attributes(
        self, broker: Broker, message: Message[Any] | MessageProxy, operation: str
    ) -> dict[str, Any]:
        """Return what spans and measurements of a message have in common."""
        attributes = {
            SYSTEM: system_of(type(broker)),
            OPERATION_NAME: operation,
            OPERATION_TYPE: operation,
            DESTINATION: q_name(message.queue_name),
            ACTOR: message.actor_name,
        }
        if self._adds_old_names:
            attributes[OLD_OPERATION] = OLD_NAMES[operation]
        return attributes


def system_of(broker_class: type[Broker]) -> str:
    """Return the name of what keeps the messages: ``redis`` for a `RedisBroker`."""
    for each in broker_class.__mro__:
        if each.__module__.startswith("dramatiq.brokers."):
            return each.__name__.removesuffix("Broker").lower()
    return "dramatiq"


def error_type_of(exception_class: type[BaseException]) -> str:
    """Return the full name of a class of exceptions."""
    name = exception_class.__qualname__
    module = exception_class.__module__
    return name if module == "builtins" else f"{module}.{name}"


def integer(value: Any) -> int | None:
    """Return a number out of a message's options, which may hold anything."""
    return int(value) if isinstance(value, int | float) else None
