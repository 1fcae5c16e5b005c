"""Lets consumers wait until there may be something to take in their queue. Thread-safe."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["News"]


class News:
    """What a process has heard. Generations rise with every piece of news."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._generations: defaultdict[str, int] = defaultdict(int)
        #: Counts what concerns all queues.
        self._general = 0

    def generation(self, queue_name: str) -> int:
        """Return what changes with every piece of news of a queue."""
        return self._generations[queue_name] + self._general

    def tell(self, queue_name: str | None = None) -> None:
        """Wake whoever waits for a queue, or all."""
        with self._changed:
            if queue_name is None:
                self._general += 1
            else:
                self._generations[queue_name] += 1
            self._changed.notify_all()

    def nudge(self) -> None:
        """Have all who wait look at their ``is_woken``."""
        with self._changed:
            self._changed.notify_all()

    def wait(
        self, queue_name: str, seen: int, timeout_s: float, is_woken: Callable[[], bool]
    ) -> None:
        """Wait until there is news since generation ``seen``, or ``is_woken``, or for so long."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.generation(queue_name) != seen or is_woken(), timeout_s
            )
