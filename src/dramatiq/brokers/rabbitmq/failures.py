"""What pika's errors mean, told as this library's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pika import exceptions  # type: ignore[import-untyped]

from ...errors import BrokerConnectionError, ConnectionClosed, ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_DECLARE_ATTEMPTS",
    "RabbitmqBlocked",
    "RabbitmqFailed",
    "code_of",
    "explain",
    "explain_opening",
    "try_again",
]

T = TypeVar("T")

#: How often declaring a queue is tried in all.
MAX_DECLARE_ATTEMPTS = 2
#: AMQP 0-9-1: an entity that does not exist, is another's alone, or is not as it was declared.
NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 404, 405, 406
#: Wrong credentials; a virtual host that is closed to them, or missing.
ACCESS_REFUSED, NOT_ALLOWED = 403, 530


class RabbitmqFailed(ConnectionFailed, ConnectionClosed):
    """Raised when no server lets us in.

    2.x raises `ConnectionClosed` for this too, so code that catches that keeps working.
    """


class RabbitmqBlocked(ConnectionClosed):
    """Raised when the server takes no messages for a while, to guard its memory or disk."""


def code_of(error: BaseException) -> int | None:
    """Return AMQP's reply code of an error, or of what caused it."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "reply_code", None)
        if isinstance(code, int):
            return code
        cause = cause.__cause__
    return None


def try_again(operation: Callable[[], T]) -> T:
    """Do something that may be done twice; again if a connection turns out to be lost.

    It may have been lost for a while, with nobody there to notice.

    Raises:
        BrokerConnectionError: If it fails for the second time, or for another reason.
    """
    for _ in range(MAX_DECLARE_ATTEMPTS - 1):
        try:
            return operation()
        except (RabbitmqFailed, RabbitmqBlocked):
            raise
        except ConnectionClosed as error:
            if code_of(error) in {NOT_FOUND, PRECONDITION_FAILED}:
                raise
    return operation()


def explain(error: BaseException, where: str) -> BrokerConnectionError:
    """Return the error to raise for one of an open connection or channel."""
    if isinstance(error, BrokerConnectionError):
        return error
    made = ConnectionClosed(f"RabbitMQ at {where}: {_text_of(error)}")
    made.__cause__ = error
    return made


def explain_opening(failed: list[tuple[str, BaseException]]) -> BrokerConnectionError:
    """Return the error to raise where no server let us in.

    Args:
        failed: Each server that was tried, and why it did not.
    """
    text = "; ".join(f"{where}: {_why(error)}" for where, error in failed)
    made = RabbitmqFailed(f"Cannot connect to RabbitMQ. {text}")
    made.__cause__ = failed[-1][1] if failed else None
    return made


def _why(error: BaseException) -> str:
    for cause in _causes(error):
        # Older releases of pika leave it at the reply code.
        code = getattr(cause, "reply_code", None)
        if code == ACCESS_REFUSED or isinstance(
            cause, (exceptions.AuthenticationError, exceptions.ProbableAuthenticationError)
        ):
            return "it refuses the user or the password"
        if code == NOT_ALLOWED or isinstance(cause, exceptions.ProbableAccessDeniedError):
            return "the user may not enter this virtual host, or there is none of that name"
        if isinstance(cause, ConnectionRefusedError):
            return "nobody listens there. Does it run?"
    return _text_of(error)


def _causes(error: Any) -> list[Any]:
    """Return an error and those that pika's workflows keep inside of it."""
    causes = [error]
    for each in causes:
        inner = getattr(each, "exceptions", None) or getattr(each, "exception", None) or each.args
        nested = inner if isinstance(inner, (list, tuple)) else [inner]
        causes += [cause for cause in nested if isinstance(cause, BaseException)]
    return causes


def _text_of(error: BaseException) -> str:
    inner = _causes(error)[-1]
    code, text = getattr(inner, "reply_code", None), getattr(inner, "reply_text", None)
    if code is not None:
        return f"{text} ({code})"
    return str(inner) or type(inner).__name__
