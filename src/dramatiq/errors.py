"""Every exception a caller may have to react to, in one tree.

One branch per reaction: connection errors together, so that a worker catches one class.
"""

from __future__ import annotations

import warnings
from typing import Any

__all__ = [
    "ActorNotFound",
    "BrokerConnectionError",
    "BrokerError",
    "ConnectionClosed",
    "ConnectionFailed",
    "DecodeError",
    "DramatiqError",
    "QueueJoinTimeout",
    "QueueNotFound",
    "RateLimitExceeded",
    "Retry",
]


class DramatiqError(Exception):
    """Base class of every error this library raises.

    Args:
        message: What happened; usually text, sometimes the object concerned.

    Attributes:
        message: The object given, unchanged.
    """

    # BaseException.__new__ has already put exactly the positional arguments into args, so the
    # constructors of this tree set their own attributes and nothing else.
    def __init__(self, message: Any) -> None:
        self.message = message

    def __str__(self) -> str:
        return str(self.message) or repr(self.message)


class DecodeError(DramatiqError):
    """Raised when bytes cannot be turned into a message or a value.

    Attributes:
        data: What could not be decoded.
        error: The underlying exception, or None.
    """

    def __init__(self, message: Any, data: Any, error: BaseException | None) -> None:
        super().__init__(message)
        self.data = data
        self.error = error


class BrokerError(DramatiqError):
    """Base class of the errors that concern a broker."""


class ActorNotFound(BrokerError):
    """Raised when a message or a lookup names an actor that the broker does not know."""


class QueueNotFound(BrokerError):
    """Raised when a queue is used before it was declared."""


class QueueJoinTimeout(DramatiqError):
    """Raised when a queue still holds messages at the deadline of a join."""


class BrokerConnectionError(BrokerError):
    """Base class of the errors that say the broker cannot be reached.

    Workers treat these as passing: they reconnect and go on.
    """


class ConnectionFailed(BrokerConnectionError):
    """Raised when a connection to the broker cannot be opened."""


class ConnectionClosed(BrokerConnectionError):
    """Raised when an open connection to the broker is lost."""


class RateLimitExceeded(DramatiqError):
    """Raised when a rate limiter has no slot left."""


class Retry(DramatiqError):
    """Raise it in an actor to have the message retried without an error in the log.

    Args:
        message: Why; optional.
        delay: Milliseconds until the next attempt. None, the default, keeps the usual backoff.
    """

    def __init__(self, message: Any = "", delay: int | None = None) -> None:
        super().__init__(message)
        self.delay = delay


def __getattr__(name: str) -> Any:
    if name == "ConnectionError":
        warnings.warn(
            "dramatiq.errors.ConnectionError is now BrokerConnectionError; "
            "the old name will be removed in 3.0.0.",
            DeprecationWarning,
            stacklevel=2,
        )
        return BrokerConnectionError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
