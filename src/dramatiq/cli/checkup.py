"""Whether a child is well: pure decisions from what was seen of it, without clock or process.

Each decision needs the same thing seen several times in a row, by a supervisor that could look
all the while. Looks are counted instead of seconds, for a supervisor that was stopped itself, or
a machine that slept, has seen nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..flight_recorder import Running
    from ..flight_recorder.reading import Sight

__all__ = ["Checkup", "Limits", "Overdue", "Stopped", "Stuck", "Verdict"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is too much.

    Attributes:
        look_s: Seconds between two looks.
        stopped_looks: Looks at which a child was stopped (by SIGSTOP) until it is killed.
        overdue_looks: Looks at which a message was past its hard limit until its process is
            killed: a thread that was just woken up has the time to notice by itself.
        stuck_pulses: Seconds, counted by the child, by which a loop is late until it counts as
            hanging.
        blind_looks: So many looks missed in a row, by the clock, and all counts start over.
        clean_after_s: Seconds after the start until files of processes that were gone by then
            are removed. Later than at once: who comes after them first reads whom to blame.
    """

    look_s: float = 1.0
    stopped_looks: int = 60
    overdue_looks: int = 3
    stuck_pulses: int = 30
    blind_looks: int = 5
    clean_after_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody stopped it and does not let it go on."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """Messages run past their hard limits."""

    running: tuple[Running, ...]


@dataclass(frozen=True, slots=True)
class Stuck:
    """A consumer or the event loop hangs, while the process could run."""

    late_s: int


Verdict = Stopped | Overdue | Stuck


class Checkup:
    """Follows one process.

    Args:
        limits: How much is too much.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._looked_at: float | None = None
        self._stopped = 0
        self._overdue: dict[Running, int] = {}
        self._late: dict[int, int] = {}

    def look(self, sight: Sight | None, *, is_stopped: bool, now_s: float) -> Verdict | None:
        """Take note of one look.

        Args:
            sight: What the flight recorder shows, if there is one.
            is_stopped: Whether the process is stopped.
            now_s: Monotonic seconds.

        Returns:
            What is wrong with it, if that is sure.
        """
        self._start_over_when_blind(now_s)
        self._stopped = self._stopped + 1 if is_stopped else 0
        if self._stopped >= self._limits.stopped_looks:
            return Stopped()
        if is_stopped or sight is None:
            # It cannot notice anything itself meanwhile.
            self._overdue, self._late = {}, {}
            return None
        return self._look_for_overdue(sight, now_s) or self._look_for_stuck(sight)

    def _start_over_when_blind(self, now_s: float) -> None:
        limits, looked_at = self._limits, self._looked_at
        self._looked_at = now_s
        if looked_at is not None and now_s - looked_at > limits.look_s * limits.blind_looks:
            self._stopped, self._overdue, self._late = 0, {}, {}

    def _look_for_overdue(self, sight: Sight, now_s: float) -> Overdue | None:
        self._overdue = {
            each: self._overdue.get(each, 0) + 1
            for each in sight.running
            if 0 < each.deadline <= now_s
        }
        surely = (each for each, n in self._overdue.items() if n >= self._limits.overdue_looks)
        running = tuple(surely)
        return Overdue(running) if running else None

    def _look_for_stuck(self, sight: Sight) -> Stuck | None:
        """Find who is late by the child's own count, and was so the last time."""
        seen, self._late = self._late, {}
        for cell, expected in sight.expected.items():
            late = sight.pulses - expected
            if late >= self._limits.stuck_pulses:
                self._late[cell] = expected
                if seen.get(cell) == expected:
                    return Stuck(late)
        return None
