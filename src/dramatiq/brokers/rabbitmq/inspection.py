"""What AMQP lets one see and do: counts, and dropping what waits.

The protocol hands messages out or counts them; it cannot show one that stays where it is, tell
who holds what, or keep a queue from being consumed. Whatever needs that says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...common import dq_name, q_name, xq_name
from ...inspection import (
    Inspection,
    InspectionNotSupported,
    QueueCounts,
    QueueInfo,
    State,
)
from .topology import waiting_names

if TYPE_CHECKING:
    from collections.abc import Collection

    from .broker import RabbitmqBroker

__all__ = ["RabbitmqInspection"]

#: Why each thing cannot be done, and what can be.
_REASONS = {
    "pause": (
        "RabbitMQ cannot keep workers from consuming a queue. Stop those that serve it, or start "
        "them without it (--queues)"
    ),
    "workers": (
        "AMQP does not tell who is connected. The server's own tools do: "
        "rabbitmqctl list_consumers, or its management page"
    ),
    "messages": (
        "AMQP cannot show a message without handing it out, which would take it from workers. "
        "The server's management page can look at single ones"
    ),
}
_REASONS |= {"resume": _REASONS["pause"], "find": _REASONS["messages"]}
_REASONS |= dict.fromkeys(("count_dead", "requeue", "delete_dead"), _REASONS["messages"])


class RabbitmqInspection(Inspection):
    """Inspects the queues this process knows: AMQP cannot list those of the server.

    ``leased`` counts what this process holds; what others hold, the server does not tell.
    """

    broker: RabbitmqBroker

    def queues(self) -> list[QueueInfo]:
        """Return all queues that this process has declared, by name."""
        return [self.queue(name) for name in sorted(self.broker.get_declared_queues())]

    def queue(self, queue_name: str) -> QueueInfo:
        """Return one queue."""
        queue_name = q_name(queue_name)
        ready, delayed, dead = self.broker.topology.count_queue(queue_name)
        leased = self.broker.held_here(queue_name)
        return QueueInfo(queue_name, QueueCounts(ready, delayed, leased, dead))

    def purge(self, queue_name: str, states: Collection[State]) -> int:
        """Drop all messages of a queue that are in one of some states, and return how many.

        Raises:
            ValueError: For `State.LEASED`: what a worker holds is not ours to drop.
        """
        queue_name = q_name(queue_name)
        if State.LEASED in states:
            raise ValueError(
                f"What workers hold of queue {queue_name!r} cannot be purged: stop them first."
            )
        names = {
            State.READY: [queue_name],
            State.DELAYED: [dq_name(queue_name), *waiting_names(queue_name)],
            State.DEAD: [xq_name(queue_name)],
        }
        return self.broker.topology.purge([name for state in states for name in names[state]])

    def _unsupported(self, what: str) -> InspectionNotSupported:
        reason = _REASONS.get(what)
        if reason is None:
            return super()._unsupported(what)
        return InspectionNotSupported(f"RabbitmqBroker does not support {what!r}: {reason}.")
