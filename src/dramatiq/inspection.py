"""What one may ask of queues: plain values that brokers return and every tool shows."""

from __future__ import annotations

import dataclasses

__all__ = ["DeadLetter", "QueueCounts"]


@dataclasses.dataclass(frozen=True)
class QueueCounts:
    """How many messages of a queue are in which state."""

    #: Waiting to be taken.
    ready: int = 0
    #: Waiting for their time.
    delayed: int = 0
    #: Held by workers.
    leased: int = 0
    #: Given up.
    dead: int = 0

    @property
    def unfinished(self) -> int:
        """Messages that are still to be run to an end."""
        return self.ready + self.delayed + self.leased


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, as it is stored."""

    queue_name: str
    #: The encoded message, with the options of its last attempt; raw if it cannot be decoded.
    payload: bytes
    #: Why it is here.
    reason: str
    #: When it came here, in UNIX epoch milliseconds.
    died_at: int
