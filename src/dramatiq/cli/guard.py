"""Looks after the children while they run, and ends those that are not well.

Part of the supervisor: its thread, no code of the user. What it knows of a child it reads in
`/proc` and in the child's flight recorder.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..flight_recorder import FlightReader, find_stale, forget
from .checkup import Checkup, Limits, Overdue, Stopped
from .vitality import DUMP_SIGNAL

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from ..flight_recorder import Running
    from .checkup import Verdict
    from .slot import Slot

__all__ = ["Guard"]

#: Seconds for which a process may take to stand still before it is killed.
STANDSTILL_S = 0.2

#: Seconds beyond twice its shutdown timeout after which one that was to drain is killed.
DRAIN_GRACE_S = 30.0


class Patient:
    """What the guard knows of one process.

    Args:
        slot: Where it runs.
        pid: Its id.
        limits: How much is too much.
    """

    def __init__(self, slot: Slot, pid: int, limits: Limits) -> None:
        self.slot = slot
        self.pid = pid
        self.checkup = Checkup(limits)
        self.reader: FlightReader | None = None
        #: When it is killed, if it has been told to drain and does not end.
        self.kill_at: float | None = None

    def running(self) -> list[Running]:
        """Return what it runs, or ran when it died."""
        return [] if self.reader is None else self.reader.look().running

    def close(self) -> None:
        """Let go of its flight recorder."""
        if self.reader is not None:
            self.reader.close()


class Guard:
    """Looks at all children once a second.

    Args:
        logger: Of the main process.
        shutdown_timeout_s: For how long a child that drains may wait for running messages.
        limits: How much is too much.

    Attributes:
        next_look_at: When the next look is due (monotonic seconds).
    """

    def __init__(
        self, logger: logging.Logger, shutdown_timeout_s: float, limits: Limits | None = None
    ) -> None:
        self._logger = logger
        self._limits = limits or Limits()
        self._drain_s = 2 * shutdown_timeout_s + DRAIN_GRACE_S
        self._patients: dict[Slot, Patient] = {}
        now_s = time.monotonic()
        # Only these: of one that dies meanwhile, others are yet to read whom to blame.
        self._stale = find_stale()
        self._clean_at: float | None = now_s + self._limits.clean_after_s
        self.next_look_at = now_s

    def admit(self, slot: Slot, recorder: str) -> None:
        """Look after a process that is ready.

        Args:
            slot: Where it runs.
            recorder: Name of its flight recorder, if it has one.
        """
        self.discharge(slot)
        if slot.pid is None:
            return
        patient = self._patients[slot] = Patient(slot, slot.pid, self._limits)
        if recorder:
            # Without it nothing can be said of what the process runs.
            with suppress(OSError):
                patient.reader = FlightReader(recorder)

    def discharge(self, slot: Slot) -> list[Running]:
        """Forget a process that has ended; return what it was running."""
        patient = self._patients.pop(slot, None)
        if patient is None:
            return []
        running = patient.running()
        patient.close()
        return running

    def excuse_all(self) -> None:
        """Say that all are being ended, so that nobody blames what they run."""
        for patient in self._patients.values():
            if patient.reader is not None:
                patient.reader.excuse()

    def close(self) -> None:
        """Close all files: for a forked child, which has nothing to do with its siblings'."""
        for patient in self._patients.values():
            patient.close()
        self._patients.clear()

    def look(self, now_s: float) -> None:
        """Look at all of them if it is time, and end those that are not well."""
        if now_s < self.next_look_at:
            return
        self.next_look_at = now_s + self._limits.look_s
        for patient in list(self._patients.values()):
            if patient.slot.pid == patient.pid:
                self._look_at(patient, now_s)
        if self._clean_at is not None and now_s >= self._clean_at:
            self._clean_at = None
            for name in self._stale & find_stale():
                forget(name)

    def _look_at(self, patient: Patient, now_s: float) -> None:
        if patient.kill_at is not None and now_s >= patient.kill_at:
            self._logger.error("%s (PID %s) does not end. Killing it.", *_names(patient))
            self._kill(patient, ())
            return
        sight = None if patient.reader is None else patient.reader.look()
        is_stopped = _states(patient.pid) == {"T"}
        verdict = patient.checkup.look(sight, is_stopped=is_stopped, now_s=now_s)
        if verdict is not None:
            self._carry_out(verdict, patient, now_s)

    def _carry_out(self, verdict: Verdict, patient: Patient, now_s: float) -> None:
        if isinstance(verdict, Stopped):
            self._logger.error(
                "%s (PID %s) has been stopped for %.0f s. Killing it, so that others can run what "
                "it holds.",
                *_names(patient),
                self._limits.stopped_looks * self._limits.look_s,
            )
            self._kill(patient, ())
        elif isinstance(verdict, Overdue):
            self._end_overdue(patient, verdict.running)
        elif patient.kill_at is None:
            self._logger.error(
                "%s (PID %s): a consumer or the event loop hangs for %d s. Its stacks follow; it "
                "finishes what it runs and is replaced.",
                *_names(patient),
                verdict.late_s,
            )
            patient.kill_at = now_s + self._drain_s
            if DUMP_SIGNAL:
                patient.slot.send(DUMP_SIGNAL)
            patient.slot.send(signal.SIGTERM)

    def _end_overdue(self, patient: Patient, overdue: Iterable[Running]) -> None:
        """Kill a process for the messages that do not end; the others it runs are not to blame."""
        slot = patient.slot
        slot.send(signal.SIGSTOP)
        _wait_until_still(patient.pid)
        # What ended in the last moment is spared.
        guilty = set(overdue) & set(patient.running())
        if not guilty:
            slot.send(signal.SIGCONT)
            return
        for each in guilty:
            self._logger.error(
                "%s (PID %s): a message of actor %r, queue %r, has run for %.0f s, past its time "
                "limit and grace, and cannot be interrupted. Killing the process.",
                *_names(patient),
                each.actor_name,
                each.queue_name,
                time.monotonic() - each.started_at,
            )
        self._kill(patient, {each.place for each in guilty})

    def _kill(self, patient: Patient, guilty: Iterable[int]) -> None:
        patient.slot.send(signal.SIGSTOP)
        _wait_until_still(patient.pid)
        if patient.reader is not None:
            patient.reader.blame_only(set(guilty))
        patient.slot.send(signal.SIGKILL)


def _names(patient: Patient) -> tuple[str, int]:
    return patient.slot.name, patient.pid


def _wait_until_still(pid: int) -> None:
    """Wait until all threads of a process that was sent SIGSTOP stand still, but not for long."""
    deadline = time.monotonic() + STANDSTILL_S
    while _states(pid) != {"T"} and time.monotonic() < deadline:
        time.sleep(0.001)


def _states(pid: int) -> set[str]:
    """Return the states of the threads of a process; empty where the system does not tell."""
    states = set()
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 (once a second for each child)
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{task}/stat").read_bytes()
                states.add(stat.rpartition(b")")[2].split(None, 1)[0].decode())
    return states
