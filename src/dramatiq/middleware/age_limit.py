"""Skip messages that are too old to be worth running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common import current_millis
from ..logging import get_logger
from .middleware import Middleware, SkipMessage

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["AgeLimit"]


class AgeLimit(Middleware):
    """Dead-letters messages that were made longer ago than ``max_age``.

    Delays and retries count towards the age.

    Args:
        max_age: Milliseconds; None, the default, means no limit. Actors and messages may have
            an option of that name.
    """

    is_loop_safe = True

    def __init__(self, *, max_age: int | None = None) -> None:
        self.logger = get_logger(__name__, type(self))
        self.max_age = max_age

    @property
    def actor_options(self) -> set[str]:
        """The option ``max_age``."""
        return {"max_age"}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Skip the message if it is too old."""
        actor = broker.get_actor(message.actor_name)
        max_age = message.options.get("max_age") or actor.options.get("max_age", self.max_age)
        if not max_age:
            return
        if current_millis() - message.message_timestamp >= max_age:
            self.logger.warning("Message %r has exceeded its age limit.", message.message_id)
            message.fail()
            raise SkipMessage("Message age limit exceeded")
