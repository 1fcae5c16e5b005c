"""One thread per broker and process that listens for news and looks after the file.

It tells waiting consumers when anybody has committed, takes back what dead workers held, and
drops what has expired. It runs while there are consumers.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ...errors import BrokerConnectionError
from ...logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...sqlite import Database

__all__ = ["Caretaker", "News"]

#: Seconds between two looks at whether another process has committed: an idle worker starts a
#: message that much later at most. A look costs about 10 microseconds.
POLL_S = 0.005
#: Seconds between two looks for dead workers.
SWEEP_S = 0.5
#: Seconds between two rounds of dropping what has expired.
MAINTENANCE_S = 60.0
#: Seconds before the caretaker tries again after an error.
RESTART_S = 1.0


class News:
    """Lets consumers wait until somebody has committed. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._generation = 0
        self._waiting = 0

    @property
    def generation(self) -> int:
        """Rises with every piece of news."""
        return self._generation

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits."""
        return self._waiting > 0

    def tell(self) -> None:
        """Wake all who wait."""
        # Looking without the lock is enough: whoever starts to wait now has yet to look itself.
        self._generation += 1
        if self._waiting:
            with self._changed:
                self._changed.notify_all()

    def wait(self, seen: int, timeout_s: float, is_woken: Callable[[], bool]) -> None:
        """Wait until there is news since generation ``seen``, or ``is_woken``, or for so long."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._generation != seen or is_woken(), timeout_s)
            finally:
                self._waiting -= 1


class Caretaker:
    """Owns that thread.

    Args:
        database: The file.
        news: Where to tell of commits.
        sweep: Takes back what dead workers held.
        maintain: Drops what has expired.
    """

    def __init__(
        self,
        database: Database,
        news: News,
        sweep: Callable[[], object],
        maintain: Callable[[], object],
    ) -> None:
        self.logger = get_logger("dramatiq.brokers.sqlite", type(self))
        self._database = database
        self._news = news
        self._sweep = sweep
        self._maintain = maintain
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="dramatiq-sqlite-caretaker", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Harmless when called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._care()
            except BrokerConnectionError as error:
                self.logger.warning("Cannot look after the queue file: %s", error)
            except Exception:
                self.logger.exception("Unexpected failure while looking after the queue file.")
            self._stopping.wait(RESTART_S)

    def _care(self) -> None:
        swept_at = maintained_at = float("-inf")
        version = self._database.version()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now - swept_at >= SWEEP_S:
                swept_at = now
                self._sweep()
            if now - maintained_at >= MAINTENANCE_S:
                maintained_at = now
                self._maintain()
            if self._news.is_awaited:
                seen, version = version, self._database.version()
                if seen != version:
                    self._news.tell()
            self._stopping.wait(POLL_S if self._news.is_awaited else POLL_S * 4)
