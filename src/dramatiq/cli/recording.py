"""A history for applications that turn none on: `dramatiq dev --history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..broker import Broker

__all__ = ["keep_history"]


def keep_history(broker: Broker) -> None:
    """Have a broker record a history, or read that of others, unless its application does.

    Raises:
        RuntimeError: If the broker has no place for it.
    """
    from ..history import History  # few ask for it

    if not any(isinstance(middleware, History) for middleware in broker.middleware):
        broker.add_middleware(History(store=broker.make_history_store()))
