"""A message together with the delivery it came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...broker import MessageProxy

if TYPE_CHECKING:
    from ...message import Message
    from .inlet import Delivery, Inlet

__all__ = ["RabbitmqMessage"]


class RabbitmqMessage(MessageProxy):
    """A message that RabbitMQ delivered.

    Attributes:
        redelivered: Whether it has been delivered before.
    """

    def __init__(self, message: Message[Any], delivery: Delivery | None = None) -> None:
        super().__init__(message)
        self._delivery = delivery
        self.redelivered = delivery is not None and delivery.redelivered

    @property
    def _tag(self) -> int | None:
        return None if self._delivery is None else self._delivery.tag

    def came_by(self, inlet: Inlet) -> bool:
        """Tell whether it can be settled by a channel: it came over that one, which is open."""
        delivery = self._delivery
        return delivery is not None and delivery.inlet is inlet and inlet.error is None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_delivery": None}
