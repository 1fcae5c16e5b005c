"""Start the next step of a pipeline when a message succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from ..message import Message
from .middleware import Middleware

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["Pipelines"]


class Pipelines(Middleware):
    """Enqueues the message in option ``pipe_target``, with the result as its last argument.

    The result is left out if the next message's or this actor's option ``pipe_ignore`` is set.
    """

    is_loop_safe = True

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))

    @property
    def actor_options(self) -> set[str]:
        """The options ``pipe_ignore`` and ``pipe_target``."""
        return {"pipe_ignore", "pipe_target"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Enqueue the next step, unless this one failed."""
        if exception is not None or message.failed:
            return
        target = message.options.get("pipe_target")
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
