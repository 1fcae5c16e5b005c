"""Messages with an eta that a broker leaves to its consumers, kept until they are due.

Belongs to the thread that consumes them, but for `join` on the queue, which any thread may call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common import current_millis, iter_queue, q_name
from ..threading import PriorityQueue
from .work_queue import _WorkQueueItem

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from ..broker import Broker, MessageProxy

__all__ = ["Parking"]


class Parking:
    """Keeps messages by the time they are due.

    Args:
        broker: Where messages go that are due.
        logger: Where to complain of an eta that is none.

    Attributes:
        queue: The messages, earliest first.
    """

    def __init__(self, broker: Broker, logger: logging.Logger) -> None:
        self.broker = broker
        self.logger = logger
        self.queue: PriorityQueue[_WorkQueueItem] = PriorityQueue()

    def park(self, message: MessageProxy) -> bool:
        """Keep a message until its eta; False if it has none and is to run now."""
        eta = message.options["eta"]
        if eta is None:
            del message.options["eta"]
            return False
        if not isinstance(eta, (int, float)):
            self.logger.warning(
                "Invalid eta value for message %r: %r. Running it now.", message.message_id, eta
            )
            eta = message.options["eta"] = current_millis()
        self.broker.emit_before("delay_message", message)
        self.queue.put(_WorkQueueItem(priority=eta, message=message))
        return True

    def wait_ms(self, limit: float) -> float:
        """Return how long nothing will be due, ``limit`` at most."""
        parked = self.queue.queue
        if not parked:
            return limit
        return min(limit, max(0, parked[0].priority - current_millis()))

    def release_due(self, settle: Callable[[MessageProxy], None]) -> None:
        """Enqueue the messages that are due, earliest first, and ``settle`` their originals.

        In that order: a crash in between makes a duplicate, never a loss.
        """
        parked = self.queue
        while parked.queue and parked.queue[0].priority <= current_millis():
            # It stays parked until both are done, so that an error leaves it to be given back.
            message = parked.queue[0].message
            due = message.copy(queue_name=q_name(message.queue_name))
            del due.options["eta"]
            self.broker.enqueue(due)
            settle(message)
            parked.get_nowait()
            parked.task_done()

    def take_all(self) -> list[MessageProxy]:
        """Forget all messages and return them."""
        messages = [item.message for item in iter_queue(self.queue)]
        for _ in messages:
            self.queue.task_done()
        return messages
