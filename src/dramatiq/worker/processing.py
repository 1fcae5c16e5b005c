"""The steps of one message, apart from whatever runs them: no thread, no I/O, no waiting.

A runner calls `before`, runs the actor it returns, and calls one of `after_success`,
`after_skip` and `after_failure`. `outcome_of` then says what to settle. Threads and the event
loop share these steps and differ only in how they wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..delivery import Outcome, Settlement
from ..errors import ActorNotFound, QueueNotFound, RateLimitExceeded, Retry
from ..logging import get_logger
from ..middleware import MiddlewareError
from ..mistakes import close_match
from ..results import Results
from ..workflows.policies import OPTION

if TYPE_CHECKING:
    from ..actor import Actor
    from ..broker import Broker, MessageProxy
    from ..middleware import SkipMessage

__all__ = [
    "NEVER_STORABLE",
    "after_failure",
    "after_skip",
    "after_success",
    "before",
    "has_results_middleware",
    "reject_unknown",
    "settlement_of",
]

logger = get_logger("dramatiq.worker", "WorkerThread")
consumer_logger = get_logger("dramatiq.worker", "ConsumerThread")

#: Errors that come back however often a follow-up is stored.
NEVER_STORABLE = (TypeError, ValueError, RecursionError, ActorNotFound, QueueNotFound)


def before(broker: Broker, message: MessageProxy) -> Actor[Any, Any] | None:
    """Run the hooks and return the actor to call; None if a hook marked the message failed.

    Raises:
        MiddlewareError: If a hook raised one; `SkipMessage` means to skip the message.
        ActorNotFound: If the actor is not declared here.
    """
    broker.emit_before("process_message", message)
    return None if message.failed else broker.get_actor(message._message.actor_name)


def reject_unknown(broker: Broker, message: MessageProxy, error: ActorNotFound) -> None:
    """Mark a message failed whose actor is not declared here."""
    consumer_logger.error(
        "Message %s of queue %r is for actor %r, which is not declared here (known: %s).%s Moving "
        "it to the dead letters. Is the module that declares it imported by this worker? Is this "
        "worker older than the sender?",
        message.message_id,
        message.queue_name,
        message.actor_name,
        ", ".join(sorted(broker.actors)) or "none",
        close_match(message.actor_name, broker.actors),
    )
    message.fail()
    message.stuff_exception(error)


def after_success(broker: Broker, message: MessageProxy, result: Any) -> None:
    """Run the hooks after the actor returned ``result``."""
    if (
        result is not None
        and not getattr(result, "_is_composed", False)
        and OPTION not in message._message.options
        and message._message.options.get("pipe_target") is None
        and not has_results_middleware(broker)
    ):
        logger.warning(
            "Actor %r returned a value that is not None, but the broker has no results backend: "
            "the value is lost. Consider adding the Results middleware to your broker.",
            message.actor_name,
        )
    broker.emit_after("process_message", message, result=result)


def after_skip(broker: Broker, message: MessageProxy, exception: SkipMessage) -> None:
    """Run the hooks after a middleware or the actor skipped the message."""
    if message.failed:
        message.stuff_exception(exception)
    logger.warning("Message %s was skipped.", message)
    broker.emit_after("skip_message", message)


def after_failure(broker: Broker, message: MessageProxy, exception: BaseException) -> None:
    """Log the failure and run the hooks after it."""
    message.stuff_exception(exception)
    _log_failure(broker, message, exception)
    broker.emit_after("process_message", message, exception=exception)


def _log_failure(broker: Broker, message: MessageProxy, exception: BaseException) -> None:
    if isinstance(exception, RateLimitExceeded):
        logger.debug("Rate limit exceeded in message %s: %s.", message, exception)
    elif isinstance(exception, Retry):
        return
    elif _is_expected(broker, message, exception):
        logger.info(
            "Failed to process message %s with expected exception %s.",
            message,
            type(exception).__name__,
        )
    else:
        logger.error(
            "Failed to process message %s with unhandled exception.", message, exc_info=exception
        )


def _is_expected(broker: Broker, message: MessageProxy, exception: BaseException) -> bool:
    throws = message.options.get("throws")
    if not throws:
        try:
            throws = broker.get_actor(message.actor_name).options.get("throws")
        except ActorNotFound:
            return False
    return bool(throws) and isinstance(exception, throws)


def has_results_middleware(broker: Broker) -> bool:
    """Tell whether the broker keeps what actors return."""
    return any(isinstance(middleware, Results) for middleware in broker.middleware)


def settlement_of(message: MessageProxy) -> Settlement:
    """Return what is to become of a processed message.

    What could not be stored because of the store is tried again: the message goes back to its
    queue. What can never be stored, a result that cannot be encoded for the next step for
    example, makes the message a dead letter, where its error can be seen.
    """
    follow_ups = message._follow_ups
    error = None if follow_ups is None else follow_ups.error
    # A hook's veto of the enqueue is a decision, not a failure.
    if error is not None and not isinstance(error, MiddlewareError):
        if not isinstance(error, NEVER_STORABLE):
            return Settlement(message, Outcome.REQUEUE)
        message.fail()
        message.stuff_exception(error)
    if not message.failed:
        settlement = Settlement(message, Outcome.ACK)
        settlement.step = message._step
        return settlement
    settlement = Settlement(
        message, Outcome.NACK, reason=_reason(message), payload=_encode(message)
    )
    if OPTION in message.options:
        from ..workflows.step import failed_step  # few messages are part of one

        settlement.step = failed_step(message)
    return settlement


def _reason(message: MessageProxy) -> str:
    exception = message._exception
    if exception is None:
        return "rejected"
    if isinstance(exception, ActorNotFound):
        return f"ActorNotFound: no actor named {exception} is declared in the worker"
    return f"{type(exception).__name__}: {exception}"


def _encode(message: MessageProxy) -> bytes | None:
    """Encode the message with the options of its last attempt, if they can be."""
    try:
        payload: bytes = message.encode()
    except Exception:
        return None
    return payload
