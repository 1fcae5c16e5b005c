"""The thread that writes attempts, many in a step, so that no message waits for it.

Worker threads and event loops leave attempts with `Recorder.put`, which never blocks. The thread
is started with the first attempt and sleeps while there is none. What it cannot write is dropped:
the history must not cost messages. After a fork the child starts a thread of its own; what the
parent had gathered is the parent's.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ..logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from .records import Attempt

__all__ = ["Recorder"]

#: Seconds that attempts gather before they are written. A process that is killed takes as many
#: with it.
GATHER_S = 0.25
#: Most attempts that wait to be written; further ones are dropped.
MAX_WAITING = 20_000
#: Seconds between two warnings of attempts that were dropped.
WARNING_INTERVAL_S = 60.0
#: Most attempts of one write.
BATCH = 500
#: Seconds that `stop` waits for what is left to be written.
STOP_PATIENCE_S = 5.0


class Recorder:
    """Gathers attempts and writes them from a thread of its own.

    `put`, `flush` and `stop` may be called from any thread.

    Args:
        write: Writes some attempts; called in the thread.
    """

    def __init__(self, write: Callable[[list[Attempt]], None]) -> None:
        self.logger = get_logger(__name__, type(self))
        self._write = write
        self._is_failing = False
        self._warns_again_at_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        #: Guards ``_thread`` and the two that tell whether it has written all there was.
        self._changed = threading.Condition()
        self._waiting: deque[Attempt] = deque()
        self._dropped = 0
        self._has_work = threading.Event()
        self._is_hurried = threading.Event()
        self._is_stopping = False
        self._thread: threading.Thread | None = None

    def forget_parent(self) -> None:
        """Start anew after a fork: what the parent had gathered it writes itself."""
        if self._pid != os.getpid():
            self._reset()

    def put(self, attempt: Attempt) -> None:
        """Leave an attempt to be written soon. Never blocks."""
        self.forget_parent()
        if len(self._waiting) >= MAX_WAITING:
            self._dropped += 1
            return
        self._waiting.append(attempt)
        # After the attempt, so that a thread that has just cleared it finds one or the other.
        if not self._has_work.is_set():
            self._has_work.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._changed:
            if self._thread is None:
                self._is_stopping = False
                self._is_hurried.clear()
                self._thread = threading.Thread(
                    target=self._run, name="dramatiq-history", daemon=True
                )
                self._thread.start()

    def flush(self, timeout_s: float = STOP_PATIENCE_S) -> bool:
        """Write what waits, now; tell whether that was done in time."""
        self.forget_parent()
        with self._changed:
            if self._thread is None:
                return True
            self._is_hurried.set()
            return self._changed.wait_for(
                lambda: self._thread is None or not self._has_work.is_set(), timeout_s
            )

    def stop(self) -> None:
        """Write what waits and end the thread. Harmless when called twice; `put` starts anew."""
        self.forget_parent()
        thread = self._thread
        if thread is None:
            return
        self._is_stopping = True
        self._is_hurried.set()
        self._has_work.set()
        thread.join(STOP_PATIENCE_S)

    def _run(self) -> None:
        while True:
            self._has_work.wait()
            self._is_hurried.wait(GATHER_S)
            self._write_all()
            with self._changed:
                self._has_work.clear()
                # One that came before the line above is not waited for any more: look again.
                if self._waiting:
                    self._has_work.set()
                    continue
                self._is_hurried.clear()
                if self._is_stopping:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._changed.notify_all()

    def _write_all(self) -> None:
        while self._waiting:
            count = min(len(self._waiting), BATCH)
            attempts = [self._waiting.popleft() for _ in range(count)]
            try:
                self._write(attempts)
            except Exception as error:
                self._tell_failure(error)
                self._dropped += len(attempts)
            else:
                self._tell_success()

    def _tell_failure(self, error: Exception) -> None:
        # Once per outage: the messages themselves are in no danger.
        if not self._is_failing:
            self._is_failing = True
            self.logger.warning(
                "The history cannot be written: %s. Messages are processed all the same, and what "
                "becomes of them meanwhile is not recorded.",
                error,
                exc_info=error,
            )

    def _tell_success(self) -> None:
        self._is_failing = False
        now_s = time.monotonic()
        if self._dropped and now_s >= self._warns_again_at_s:
            self._warns_again_at_s = now_s + WARNING_INTERVAL_S
            dropped, self._dropped = self._dropped, 0
            self.logger.warning(
                "The history lacks %d attempts that could not be written in time.", dropped
            )
