"""Tell another actor how a message ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..logging import get_logger
from .middleware import Middleware

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["Callbacks"]


class Callbacks(Middleware):
    """Sends a message to the actor named by ``on_success`` or ``on_failure``.

    The success actor gets the message's dictionary and the result; the failure actor gets the
    dictionary and the exception's type and text, on every failed attempt.
    """

    is_loop_safe = True

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))

    @property
    def actor_options(self) -> set[str]:
        """The options ``on_failure`` and ``on_success``."""
        return {"on_failure", "on_success"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send the callback that fits, if there is one."""
        option = "on_success" if exception is None else "on_failure"
        actor = broker.get_actor(message.actor_name)
        target_name = message.options.get(option) or actor.options.get(option)
        if not target_name:
            return
        outcome = result
        if exception is not None:
            outcome = {"type": type(exception).__name__, "message": str(exception)}
        # An actor object is as good as its name: options of actors are kept as they were given.
        target = broker.get_actor(getattr(target_name, "actor_name", target_name))
        with broker.follow_ups(message):
            target.send(message.asdict(), outcome)
