"""Let actors and what they call see the message that is being processed."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from .middleware import Middleware

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy

__all__ = ["CurrentMessage"]


class CurrentMessage(Middleware):
    """Exposes the current message through `get_current_message`, in async actors too."""

    is_loop_safe = True

    _current: contextvars.ContextVar[MessageProxy | None] = contextvars.ContextVar(
        "dramatiq_current_message", default=None
    )

    @classmethod
    def get_current_message(cls) -> MessageProxy | None:
        """Return the message being processed in this context, or None outside of actors."""
        return cls._current.get()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Remember the message."""
        self._current.set(message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Forget the message."""
        self._current.set(None)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Forget the message."""
        self._current.set(None)
