"""When a worker process has had its share: after so many messages, or with so much memory.

It does not stop by itself. It says so once, and goes on until another process has taken over.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..middleware import Middleware

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..broker import Broker, MessageProxy

#: Seconds between two looks at the memory, at least: a look costs as much as a small message.
LOOK_EVERY_S = 0.1

#: The share of --max-messages by which processes differ, so that they are not replaced together.
JITTER = 0.1

MIB = 1024 * 1024


class Limits(Middleware):
    """Counts the messages of this process and watches its memory. From any thread.

    Args:
        max_messages: How many messages; None for no limit. Up to a tenth less is drawn.
        max_memory_mib: How much resident memory, in MiB; None for no limit.
        on_reached: Called once, with what to say about it.
    """

    is_loop_safe = True

    def __init__(
        self,
        max_messages: int | None,
        max_memory_mib: int | None,
        on_reached: Callable[[str], None],
    ) -> None:
        self._limit = max_messages and max_messages - random.randrange(  # noqa: S311 - no secret
            int(max_messages * JITTER) + 1
        )
        self._max_bytes = max_memory_mib and max_memory_mib * MIB
        self._on_reached = on_reached
        self._lock = Lock()
        self._is_reached = False
        self._processed = 0
        self._next_look_at = 0.0

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Count the message."""
        self._count()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Count the message."""
        self._count()

    def look(self) -> None:
        """Look at the memory, for times in which no message ends."""
        # What it takes without any message would be taken by its replacement too.
        if self._processed:
            self._look_at_memory()

    def _count(self) -> None:
        with self._lock:
            self._processed += 1
            is_over = self._limit is not None and self._processed == self._limit
        if is_over:
            self._reach(f"has processed {self._limit} messages and asks to be replaced")
        self._look_at_memory()

    def _look_at_memory(self) -> None:
        now_s = time.monotonic()
        if self._max_bytes is None or self._is_reached or now_s < self._next_look_at:
            return
        self._next_look_at = now_s + LOOK_EVERY_S
        used = resident_bytes()
        if used > self._max_bytes:
            self._reach(
                f"takes {used // MIB} MiB, more than the {self._max_bytes // MIB} of "
                "--max-memory, and asks to be replaced"
            )

    def _reach(self, reason: str) -> None:
        with self._lock:
            was_reached, self._is_reached = self._is_reached, True
        if not was_reached:
            self._on_reached(reason)


def resident_bytes() -> int:
    """Return how much memory this process takes: now on Linux, at most so far elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return _peak_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # not there on Windows, where no limit is kept
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
