"""How far a bulk operation is, and at which pace it may go."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TextIO

__all__ = ["ProgressBar", "Throttle"]

#: Characters of the bar.
WIDTH = 30
#: Seconds between two steps of an operation that keeps to a pace.
STEP_S = 0.1


class ProgressBar:
    """Shows on a terminal how much is done; elsewhere nothing. A context manager.

    Args:
        total: How much there is to do.
        stream: The terminal.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = max(total, 1)
        self._stream = stream or sys.stderr
        self._is_shown = self._stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def show(self, done: int) -> None:
        """Draw the bar."""
        if not self._is_shown:
            return
        filled = min(WIDTH * done // self._total, WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        self._stream.write(f"\r\x1b[K[{bar}] {done:,} of {self._total:,}")
        self._stream.flush()


class Throttle:
    """Splits an operation into steps that keep to a pace.

    Args:
        pace: How many per second.
        wait: Waits for so many seconds.
        clock: The monotonic clock, in seconds.
    """

    def __init__(
        self,
        pace: float,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pace = pace
        self._wait = wait or threading.Event().wait
        self._clock = clock
        self._started_at = clock()

    @property
    def step(self) -> int:
        """How many to do at a time."""
        return max(1, int(self._pace * STEP_S))

    def keep_pace(self, done: int) -> None:
        """Wait until so many may have been done."""
        due_in_s = self._started_at + done / self._pace - self._clock()
        if due_in_s > 0:
            self._wait(due_in_s)
