"""What was finished, remembered for when it comes again.

An acknowledgement has no answer: whether the server got it before the connection broke, nobody
knows. It then delivers the message again, perhaps to us, who can tell that it has run.
"""

from __future__ import annotations

import threading

__all__ = ["DoneWindow"]

#: How many ids are remembered per queue.
LIMIT = 10_000


class DoneWindow:
    """The ids of one queue that were finished last. May be used from any thread."""

    def __init__(self) -> None:
        self._ids: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def add(self, delivery_id: bytes) -> None:
        """Remember one."""
        with self._lock:
            self._ids[delivery_id] = None
            if len(self._ids) > LIMIT:
                del self._ids[next(iter(self._ids))]

    def __contains__(self, delivery_id: bytes) -> bool:
        return delivery_id in self._ids
