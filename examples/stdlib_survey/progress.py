"""A progress bar: how much is done, how fast it goes, and how long it will take."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Progress"]

#: Characters of the bar itself.
BAR_WIDTH = 30
#: Seconds between two lines where they cannot be written over.
LINE_INTERVAL_S = 2.0


class Progress:
    """Shows the progress of one phase: a bar on a terminal, elsewhere a line now and then.

    Args:
        label: What is being done.
        total: How much there is to do.
        done: How much of it was done before; it does not count for the rate.
        stream: Where to write; standard output by default.
        clock: Monotonic seconds.
        environment: Where ``NO_COLOR`` is looked up; a bar is not drawn then.
    """

    def __init__(
        self,
        label: str,
        total: int,
        done: int = 0,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._label = label
        self._total = total
        self._done = self._done_before = done
        self._stream = stream or sys.stdout
        self._clock = clock
        self._started_at_s = clock()
        self._shown_at_s: float | None = None
        self._shown_done: int | None = None
        self._draws = self._stream.isatty() and not environment.get("NO_COLOR")

    @property
    def rate(self) -> float:
        """How much is done per second, since this was made."""
        elapsed_s = self._clock() - self._started_at_s
        return (self._done - self._done_before) / elapsed_s if elapsed_s > 0 else 0.0

    def update(self, done: int) -> None:
        """Show that so much is done now; without a bar, not too often."""
        self._done = done
        is_due = self._shown_at_s is None or self._clock() >= self._shown_at_s + LINE_INTERVAL_S
        if self._draws or is_due:
            self._show()

    def finish(self) -> None:
        """Show the last state for good, however soon after the one before."""
        if self._shown_done != self._done:
            self._show()
        if self._draws:
            self._stream.write("\n")
            self._stream.flush()

    def _show(self) -> None:
        self._stream.write(f"\r{self._bar()} {self}\x1b[K" if self._draws else f"{self}\n")
        self._stream.flush()
        self._shown_at_s = self._clock()
        self._shown_done = self._done

    def _bar(self) -> str:
        filled = BAR_WIDTH * self._done // self._total if self._total else BAR_WIDTH
        return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]"

    def __str__(self) -> str:
        percent = 100 * self._done // self._total if self._total else 100
        text = f"{self._label} {self._done:,} of {self._total:,} ({percent} %)"
        rate = self.rate
        if rate:
            text += f", {rate:,.0f}/s"
        if rate and self._done < self._total:
            minutes, seconds = divmod(round((self._total - self._done) / rate), 60)
            text += f", {minutes}:{seconds:02} left"
        return text
