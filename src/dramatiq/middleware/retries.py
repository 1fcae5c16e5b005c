"""Run failed messages again, later and later, until they succeed or are given up."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..common import compute_backoff, current_millis
from ..errors import Retry
from ..logging import get_logger
from .middleware import Middleware

if TYPE_CHECKING:
    from ..actor import Actor
    from ..broker import Broker, MessageProxy

__all__ = ["Retries"]

#: Milliseconds before the first retry.
DEFAULT_MIN_BACKOFF = 15_000
#: Milliseconds no backoff exceeds: seven days.
DEFAULT_MAX_BACKOFF = 86_400_000 * 7
#: Frames of a traceback that travel with a retried message.
MAX_TRACEBACK_FRAMES = 30

RetryPredicate = Callable[[int, BaseException], bool]


class Retries(Middleware):
    """Retries failed messages with exponential, jittered backoff.

    Each argument is also an actor option, and all but ``retry_when`` a message option. Further
    options: ``throws``, an exception class or tuple that is expected and never retried, and
    ``on_retry_exhausted``, the name of an actor to tell when retries are used up.

    Args:
        max_retries: How many retries; None means without end.
        min_backoff: Milliseconds before the first retry; 15 seconds by default.
        max_backoff: Milliseconds no wait exceeds; seven days by default and at most.
        retry_when: Called with the number of retries so far and the exception; decides alone
            when given.
    """

    is_loop_safe = True

    def __init__(
        self,
        *,
        max_retries: int | None = 20,
        min_backoff: int | None = None,
        max_backoff: int | None = None,
        retry_when: RetryPredicate | None = None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.max_retries = max_retries
        self.min_backoff = min_backoff or DEFAULT_MIN_BACKOFF
        self.max_backoff = max_backoff or DEFAULT_MAX_BACKOFF
        self.retry_when = retry_when

    @property
    def actor_options(self) -> set[str]:
        """The options of this middleware, see the class."""
        return {
            "max_backoff",
            "max_retries",
            "min_backoff",
            "on_retry_exhausted",
            "retry_when",
            "throws",
        }

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Enqueue a failed message again, or mark it failed when that is over."""
        if exception is None:
            return
        actor = broker.get_actor(message.actor_name)
        throws = message.options.get("throws") or actor.options.get("throws")
        if throws and isinstance(exception, throws):
            self.logger.info("Aborting message %r.", message.message_id)
            message.fail()
            return
        retries = message.options.setdefault("retries", 0)
        message.options["retries"] = retries + 1
        message.options["traceback"] = _format(exception)
        message.options["requeue_timestamp"] = current_millis()
        max_retries = self._option("max_retries", message, actor)
        if self._is_exhausted(retries, max_retries, actor, exception):
            self._give_up(broker, message, actor, retries, max_retries)
        else:
            self._retry(broker, message, self._delay(retries, exception, message, actor))

    def _option(self, name: str, message: MessageProxy, actor: Actor[Any, Any]) -> Any:
        if name in message.options:
            return message.options[name]
        return actor.options.get(name, getattr(self, name))

    def _is_exhausted(
        self,
        retries: int,
        max_retries: int | None,
        actor: Actor[Any, Any],
        exception: BaseException,
    ) -> bool:
        retry_when = actor.options.get("retry_when", self.retry_when)
        if retry_when is not None:
            return not retry_when(retries, exception)
        return max_retries is not None and retries >= max_retries

    def _delay(
        self,
        retries: int,
        exception: BaseException,
        message: MessageProxy,
        actor: Actor[Any, Any],
    ) -> int:
        if isinstance(exception, Retry) and exception.delay is not None:
            return exception.delay
        min_backoff = self._option("min_backoff", message, actor)
        max_backoff = min(self._option("max_backoff", message, actor), DEFAULT_MAX_BACKOFF)
        return compute_backoff(retries, factor=min_backoff, max_backoff=max_backoff)[1]

    def _retry(self, broker: Broker, message: MessageProxy, delay: int) -> None:
        self.logger.info("Retrying message %r in %d milliseconds.", message.message_id, delay)
        with broker.follow_ups(message):
            broker.enqueue(message, delay=delay)  # type: ignore[arg-type]  # brokers take proxies

    def _give_up(
        self,
        broker: Broker,
        message: MessageProxy,
        actor: Actor[Any, Any],
        retries: int,
        max_retries: int | None,
    ) -> None:
        self.logger.warning("Retries exceeded for message %r.", message.message_id)
        message.fail()
        target_name = message.options.get("on_retry_exhausted") or actor.options.get(
            "on_retry_exhausted"
        )
        if target_name:
            target = broker.get_actor(getattr(target_name, "actor_name", target_name))
            with broker.follow_ups(message):
                target.send(message.asdict(), {"retries": retries, "max_retries": max_retries})


def _format(exception: BaseException) -> str:
    """Format like the interpreter does, with the innermost frames only."""
    lines = traceback.format_exception(exception, limit=-MAX_TRACEBACK_FRAMES)
    return "".join(lines)
