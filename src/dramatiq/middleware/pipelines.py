"""Start the next step of a pipeline when a message succeeded, and tell workflows of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from ..message import Message
from ..workflows.policies import OPTION
from .middleware import Middleware, SkipMessage

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["Pipelines"]


class Pipelines(Middleware):
    """Enqueues the message in option ``pipe_target``, with the result as its last argument.

    The result is left out if the next message's or this actor's option ``pipe_ignore`` is set.

    A message of a workflow tells it what it came to. An actor that returns a message, a group or
    a pipeline is replaced by it: what waits for its result waits for that one's.
    """

    is_loop_safe = True

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))

    @property
    def actor_options(self) -> set[str]:
        """The options ``pipe_ignore`` and ``pipe_target``."""
        return {"pipe_ignore", "pipe_target"}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skip a message whose workflow is cancelled."""
        place = message._message.options.get(OPTION)
        if place is not None:
            from ..workflows import hooks  # few messages are part of one

            if not hooks.enter(broker, message, place):
                raise SkipMessage(f"Workflow {place[0]} is cancelled")

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Enqueue the next step, unless this one failed."""
        options = message.options
        place = options.get(OPTION)
        if place is not None:
            from ..workflows import hooks

            hooks.leave(broker, message, place, result, exception)
        if exception is not None or message.failed:
            return
        if getattr(result, "_is_composed", False):
            if place is None:
                from ..workflows import hooks

                hooks.begin(broker, message, result)
            return
        target = options.get("pipe_target")
        if target is None:
            return
        actor = broker.get_actor(message.actor_name)
        with broker.follow_ups(message):
            next_message: Message[Any] = Message(**target)
            ignores_result = next_message.options.get("pipe_ignore") or actor.options.get(
                "pipe_ignore"
            )
            if not ignores_result:
                next_message = next_message.copy(args=(*next_message.args, result))
            broker.enqueue(next_message, delay=next_message.options.get("delay"))

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Have a message of a workflow count as failed that was skipped."""
        if OPTION in message.options:
            from ..workflows import hooks

            hooks.skip(message)
