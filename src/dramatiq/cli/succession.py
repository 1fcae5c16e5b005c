"""Replace processes without a gap: pure decisions about slots, made in the supervisor's loop.

A worker stops only when another one, started for that, has reported to be ready. One at a time,
and the next begins when the last has ended, so that there is never more than one process too many.
A fork process is stopped first and started again after: often there can only be one of its kind,
because it holds a port or fires a schedule.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from .restart import RestartHistory, RestartPolicy

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from .slot import Slot

#: What ends a process that does not react.
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

#: Seconds that a fork process may take to end before it is killed.
FORK_PATIENCE_S = 5.0


class Succession:
    """Who takes over from whom among the workers.

    Args:
        workers: One slot per place; changed here when somebody takes over.
        make: Returns a new slot for the place of another one.
        start: Starts the process of a slot.
        logger: Of the main process.
        boot_timeout_s: Seconds that a replacement may take to be ready.
        on_rolled: Called when all have been replaced.
    """

    def __init__(
        self,
        workers: list[Slot],
        *,
        make: Callable[[Slot], Slot],
        start: Callable[[Slot], None],
        logger: logging.Logger,
        boot_timeout_s: float,
        on_rolled: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._make = make
        self._start = start
        self._logger = logger
        self._boot_timeout_s = boot_timeout_s
        self._on_rolled = on_rolled
        self._is_rolling = False
        self._to_roll: list[Slot] = []
        self._asking: list[Slot] = []
        self._old: Slot | None = None
        self._new: Slot | None = None
        self._retiring: Slot | None = None
        self._has_failed = False
        self._boot_deadline: float | None = None
        self._resumes_at: float | None = None
        self._failures = RestartHistory(RestartPolicy())

    @property
    def extra_slots(self) -> list[Slot]:
        """Slots that are not, or no longer, in the list of workers."""
        return [slot for slot in (self._new, self._retiring) if slot is not None]

    @property
    def due_at(self) -> float | None:
        """When `step` has something to do at the latest (monotonic seconds); None for never."""
        moments = [self._boot_deadline, self._resumes_at]
        return min((moment for moment in moments if moment is not None), default=None)

    def roll(self) -> None:
        """Replace all workers; those whose replacement is under way too, as code may be newer."""
        self._is_rolling = True
        self._to_roll = list(self._workers)

    def ask(self, slot: Slot) -> None:
        """Replace one worker, which asked for it."""
        if slot not in self._asking:
            self._asking.append(slot)

    def cancel(self) -> None:
        """Start no more replacements: everything stops."""
        self._is_rolling = False
        self._to_roll.clear()
        self._asking.clear()
        self._boot_deadline = self._resumes_at = None

    def step(self, now_s: float) -> None:
        """Do what is due."""
        if self._boot_deadline is not None and now_s >= self._boot_deadline and self._new:
            self._fail("it was not ready in time")
            self._new.send(KILL)
        if self._resumes_at is not None and now_s >= self._resumes_at:
            self._resumes_at = None
        if self._new is None and self._retiring is None:
            self._begin_next(now_s)

    def _begin_next(self, now_s: float) -> None:
        old = self._next()
        if old is None:
            if self._is_rolling:
                self._is_rolling = False
                self._logger.info("All worker processes have been replaced.")
                self._on_rolled()
            return
        self._old, self._new = old, self._make(old)
        self._new.is_first = False
        self._has_failed = False
        self._boot_deadline = now_s + self._boot_timeout_s
        self._start(self._new)
        if not self._new.is_running:
            self._fail("it cannot be started")
            self._forget_new()

    def _next(self) -> Slot | None:
        while self._to_roll:
            slot = self._to_roll.pop(0)
            # One that has died meanwhile starts again with the new code anyway.
            if slot in self._workers and slot.is_running:
                return slot
        if self._resumes_at is None:
            for slot in self._asking:
                if slot in self._workers and slot.is_running:
                    return slot
        return None

    # What the supervisor notices

    def accept(self, slot: Slot) -> None:
        """Let a replacement that is ready take over; other slots are none of our business."""
        old = self._old
        if slot is not self._new or old is None or self._has_failed:
            return
        self._logger.info("%s (PID %s) is replaced by PID %s.", old.name, old.pid, slot.pid)
        self._take_place(old)
        self._failures = RestartHistory(RestartPolicy())
        self._retiring = old
        old.retire()

    def refuse(self, slot: Slot) -> bool:
        """Tell whether a slot that failed to boot is a replacement; if so, the old one stays."""
        if slot is not self._new:
            return False
        self._fail("it failed to boot")
        return True

    def dealt_with(self, slot: Slot, code: int) -> bool:
        """Tell whether the end of a process needs no further care."""
        if slot is self._retiring:
            self._retiring = None
            if code != 0:
                self._logger.warning("%s, replaced, ended with code %s.", slot.name, code)
            return True
        if slot is self._new:
            self._fail("it died before it was ready")
            self._forget_new()
            return True
        return False

    def has_failed(self, slot: Slot) -> bool:
        """Tell whether a slot is a replacement that was given up: how it ends does not matter."""
        return slot is self._new and self._has_failed

    def steps_in_for(self, slot: Slot) -> bool:
        """Tell whether a dead worker's replacement is on its way; if so, it takes the place."""
        if slot is not self._old or self._new is None or self._has_failed:
            return False
        self._take_place(slot)
        return True

    def _take_place(self, old: Slot) -> None:
        new = self._new
        if new is None:
            return
        self._workers[self._workers.index(old)] = new
        self._to_roll = [new if slot is old else slot for slot in self._to_roll]
        self._asking = [slot for slot in self._asking if slot is not old]
        self._old = self._new = self._boot_deadline = None

    def _forget_new(self) -> None:
        self._old = self._new = self._boot_deadline = None

    def _fail(self, why: str) -> None:
        """Give a replacement up; the process that it was for stays."""
        if self._has_failed or self._old is None:
            return
        self._has_failed = True
        self._boot_deadline = None
        if self._is_rolling:
            self._is_rolling = False
            self._to_roll.clear()
            self._logger.error(
                "The replacement of %s was given up: %s. The roll ends here, and the processes "
                "that are running stay as they are. Correct the code, then send SIGHUP again.",
                self._old.name,
                why,
            )
        else:
            delay_s = self._failures.delay_after_death(None) or RestartPolicy().longest_delay_s
            self._resumes_at = time.monotonic() + delay_s
            self._logger.error(
                "The replacement of %s was given up: %s. The old process goes on; another "
                "attempt follows in %.1f s.",
                self._old.name,
                why,
                delay_s,
            )


class ForkRenewal:
    """Stops fork processes and starts them again.

    Args:
        start: Starts the process of a slot.
    """

    def __init__(self, start: Callable[[Slot], None]) -> None:
        self._start = start
        self._kill_at: dict[Slot, float] = {}
        self._unwanted: set[Slot] = set()

    @property
    def due_at(self) -> float | None:
        """When `step` has something to do (monotonic seconds); None for never."""
        return min(self._kill_at.values(), default=None)

    def renew(self, slot: Slot, *, is_wanted: bool) -> None:
        """Stop a process, and start it again if it is still wanted."""
        slot.restart_at = None
        if not slot.is_running:
            if is_wanted:
                self._start(slot)
            return
        self._kill_at[slot] = time.monotonic() + FORK_PATIENCE_S
        if not is_wanted:
            self._unwanted.add(slot)
        slot.send(signal.SIGTERM)

    def step(self, now_s: float) -> None:
        """Kill what does not react."""
        for slot, kill_at in self._kill_at.items():
            if kill_at <= now_s:
                self._kill_at[slot] = float("inf")
                slot.send(KILL)

    def dealt_with(self, slot: Slot) -> bool:
        """Tell whether the end of a process was asked for; if so, start it again if wanted."""
        if self._kill_at.pop(slot, None) is None:
            return False
        if slot in self._unwanted:
            self._unwanted.discard(slot)
        else:
            self._start(slot)
        return True
