"""What was finished, remembered for when it comes again.

An acknowledgement has no answer: whether the server got it before the connection broke, nobody
knows. It then delivers the message again, perhaps to us, who can tell that it has run.
"""

from __future__ import annotations

import threading
import time

__all__ = ["DoneWindow"]

#: How many ids are remembered per queue.
LIMIT = 10_000


class DoneWindow:
    """The ids of one queue that were finished last. May be used from any thread."""

    def __init__(self) -> None:
        self._finished_at: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def add(self, delivery_id: bytes) -> None:
        """Remember one."""
        with self._lock:
            self._finished_at[delivery_id] = time.monotonic()
            if len(self._finished_at) > LIMIT:
                del self._finished_at[next(iter(self._finished_at))]

    def finished_at(self, delivery_id: bytes) -> float | None:
        """Return when one was finished, by the monotonic clock; None if it is not known."""
        return self._finished_at.get(delivery_id)
