"""Threads that run messages in place of those that wait for what other messages come to.

Without them a worker whose threads all wait would run nothing that could end the waiting. Any
worker thread may ask for one; the list of threads is the worker's, and changes under its lock.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Lock

    from ..flight_recorder import Record
    from .threads import WorkerThread

__all__ = ["RECORDED", "StandIns"]

#: Most threads that stand in for others: each of them is there because a message waits.
MOST = 500
#: Of how many of them it is written down what they run.
RECORDED = 32


class StandIns:
    """Starts and ends them.

    Args:
        workers: The threads that run messages; those that stand in are among them.
        lock: Protects that list.
        make: Returns another thread.
        feed: Tells the consumers that a thread is free.
    """

    def __init__(
        self,
        workers: list[WorkerThread],
        lock: Lock,
        make: Callable[[], WorkerThread],
        feed: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._lock = lock
        self._make = make
        self._feed = feed
        #: Those that end after what they run.
        self.leaving: list[WorkerThread] = []
        self._present = 0
        self._records: list[Record] = []
        self._is_open = False

    def open(self, records: Iterable[Record]) -> None:
        """Start threads from now on, and write down there what they run."""
        self._records = list(records)
        self.resume()

    def resume(self) -> None:
        """Start threads again, after `pause`."""
        with self._lock:
            self._is_open = True

    def pause(self) -> None:
        """Start no more."""
        with self._lock:
            self._is_open = False

    def start(self) -> Callable[[], None] | None:
        """Start a thread for one that waits for other messages; return what ends it."""
        with self._lock:
            self._collect()
            if not self._is_open or self._present + len(self.leaving) >= MOST:
                return None
            stand_in = self._make()
            if self._records:
                stand_in.record = self._records.pop()
            stand_in.start()
            self._workers.append(stand_in)
            self._present += 1
        self._feed()
        return partial(self._end, stand_in)

    def count_leaving(self) -> int:
        """Return how many are to end and run yet.

        Such a one may have taken a message at the last moment, which counts as unfinished.
        """
        return sum(each.is_alive() for each in tuple(self.leaving))

    def _collect(self) -> None:
        """Take the records of those that have ended."""
        for gone in [each for each in self.leaving if not each.is_alive()]:
            self.leaving.remove(gone)
            if gone.record is not None:
                self._records.append(gone.record)

    def _end(self, stand_in: WorkerThread) -> None:
        with self._lock:
            self._workers.remove(stand_in)
            self.leaving.append(stand_in)
            self._present -= 1
        # After what it runs.
        stand_in.stop()
