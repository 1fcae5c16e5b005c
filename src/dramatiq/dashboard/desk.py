"""What all pages work with: the broker, and how its messages are to be shown."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..inspection import InspectionNotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..broker import Broker
    from ..history import HistoryStore
    from ..inspection import Inspection
    from .redaction import Redactor

__all__ = ["HISTORY_IS_OFF", "Desk", "ask", "explain"]

#: What pages say that would show more.
HISTORY_IS_OFF = (
    "History is off, so nothing is known of messages that have finished. Turn it on where your "
    "broker is made: broker.add_middleware(dramatiq.history.History())"
)


@dataclasses.dataclass(frozen=True)
class Desk:
    """One dashboard's broker and settings. Thread-safe, and without a memory.

    Args:
        broker: The broker.
        redactor: Takes out what is secret.
        title: The name of the application.
        environment: Such as ``production``, for the badge; may be empty.
        hide_args: Whether nobody sees arguments; None for everybody who is not on this machine.
        tabs: The navigation.
    """

    broker: Broker
    redactor: Redactor
    title: str
    environment: str
    hide_args: bool | None
    tabs: tuple[Any, ...]

    @cached_property
    def inspection(self) -> Inspection:
        """The door to the broker's store; always the same, which knows what it found last."""
        inspection: Inspection = self.broker.inspection
        return inspection

    @property
    def history(self) -> HistoryStore | None:
        """The store of what has finished; None where it is off."""
        try:
            return self.broker.history
        except RuntimeError:
            return None


def ask(question: Callable[[], Any], default: Any) -> tuple[Any, str | None]:
    """Return the answer to a question, or the default and why the broker cannot tell.

    Raises:
        BrokerConnectionError: If the store cannot be reached.
    """
    try:
        return question(), None
    except InspectionNotSupported as error:
        return default, str(error)


def explain(error: Exception) -> str:
    """Return an error as one line."""
    return " ".join(str(error).split())
