"""What the main thread of a worker process looks at from time to time."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from .channel import Note, Wish

if TYPE_CHECKING:
    import argparse
    import logging

    from ..worker import Worker
    from .burst import BurstWatch
    from .channel import ChildChannel
    from .limits import Limits

#: Milliseconds between two looks at whether the queues are consumed, after the start.
READY_INTERVAL_MS = 5

#: How many of these; then the broker cannot be reached, as it seems.
QUICK_LOOKS = 100

#: Milliseconds while the broker cannot be reached.
OUTAGE_INTERVAL_MS = 100

#: Milliseconds between two looks at the memory of a process in which no message ends.
MEMORY_INTERVAL_MS = 1000

#: The same for whether a burst is over.
BURST_INTERVAL_MS = 50


class Looks:
    """Watches for the beginning, the end of a burst and the limits. Main thread only.

    Args:
        args: The command line.
        worker: The worker, before it starts: its first message counts too.
        channel: To tell the supervisor.
        logger: Of this process.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        worker: Worker,
        channel: ChildChannel,
        logger: logging.Logger,
    ) -> None:
        self._interval_ms: int | None = None
        self._worker = worker
        self._logger = logger
        self._looks_left = QUICK_LOOKS
        self._is_ready = False
        self._channel = channel
        self._lock = Lock()
        self._may_ask = False
        self._reason: str | None = None
        self._burst: BurstWatch | None = None
        self._limits: Limits | None = None
        max_messages = getattr(args, "max_messages", None)
        max_memory = getattr(args, "max_memory", None)
        if max_messages or max_memory:
            from .limits import Limits  # only for those who ask for it

            self._limits = Limits(max_messages, max_memory, self._ask_for_replacement)
            worker.broker.middleware.append(self._limits)
            self._interval_ms = MEMORY_INTERVAL_MS if max_memory else None
        if getattr(args, "burst", False):
            from .burst import BurstWatch  # as above

            self._burst = BurstWatch(worker)
            self._interval_ms = BURST_INTERVAL_MS

    @property
    def interval_ms(self) -> int | None:
        """Milliseconds until the next look; None if none is needed."""
        if self._is_ready:
            return self._interval_ms
        return READY_INTERVAL_MS if self._looks_left > 0 else OUTAGE_INTERVAL_MS

    def is_over(self) -> bool:
        """Look, and tell whether the burst is over."""
        self._looks_left -= 1
        if not self._is_ready and self._worker.is_consuming:
            self._is_ready = True
            self._logger.info("Worker process is ready.")
        if self._limits is not None:
            self._limits.look()
        if self._burst is None or not self._burst.is_over():
            return False
        self._channel.send_report(Note(Wish.END, "has nothing left to do"))
        return True

    def begin(self) -> None:
        """Let notes out from now on, when the report about booting has been sent."""
        with self._lock:
            self._may_ask = True
            self._ask()

    def _ask_for_replacement(self, reason: str) -> None:
        """Take note that a limit is reached. From any thread."""
        with self._lock:
            self._reason = reason
            self._ask()

    def _ask(self) -> None:
        if self._may_ask and self._reason is not None:
            self._channel.send_report(Note(Wish.REPLACEMENT, self._reason))
            self._reason = None
