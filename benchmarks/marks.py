"""A file in shared memory where every finished message leaves the moment it finished.

The file holds one 64-bit number per message: nanoseconds of the monotonic clock, which is the same
in all processes of a machine, or 0. That makes counting exact and equal for all systems: a message
that was lost leaves a 0, and first, last and single delays are read off without any queue's help.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Marks"]

#: Seconds between two looks at whether all messages are marked; the marks carry the exact times.
LOOK_INTERVAL_S = 0.02


class Marks:
    """The moments at which messages were marked. May be used from any thread and process.

    Args:
        path: The file, as `create` made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self._moments = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls, path: Path, count: int) -> Marks:
        """Make a file for ``count`` messages, none of them marked."""
        path.write_bytes(bytes(8 * count))
        return cls(path)

    def mark(self, index: int) -> None:
        """Note that message ``index`` is here now."""
        self._moments[index] = time.monotonic_ns()

    def is_marked(self, index: int) -> bool:
        """Tell whether message ``index`` was marked."""
        return self._moments[index] != 0

    def moments(self, count: int) -> list[int]:
        """Return the moments of the first ``count`` messages, in nanoseconds; 0 for not yet."""
        return self._moments[:count].tolist()

    def wait(self, count: int, timeout_s: float) -> list[int]:
        """Wait until the first ``count`` messages are marked.

        Returns:
            Their moments, in nanoseconds.

        Raises:
            TimeoutError: Some are missing at the deadline.
        """
        deadline = time.monotonic() + timeout_s
        done = 0
        while True:
            while done < count and self._moments[done]:
                done += 1
            if done == count:
                return self.moments(count)
            if time.monotonic() > deadline:
                missing = self.moments(count).count(0)
                raise TimeoutError(f"{missing} of {count} messages unfinished after {timeout_s} s.")
            time.sleep(LOOK_INTERVAL_S)

    def greet(self) -> None:
        """Note that this process works."""
        self._greeting(os.getpid()).touch()

    def greeted(self) -> int:
        """Return how many processes work."""
        return len(list(self.path.parent.glob(self._greeting("*").name)))

    def _greeting(self, who: int | str) -> Path:
        return self.path.with_name(f"{self.path.name}.greeting-{who}")

    def close(self) -> None:
        """Unmap the file."""
        self._moments.release()
        self._memory.close()
