"""A list of strings in shared memory, written once and read by other processes.

Made to hand the import paths of fork functions from one process to another. Wrap the structure
in ``multiprocessing.Value(Canteen)`` to share it; the lock of that wrapper decides who writes.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from ctypes import Structure, c_bool, c_int, c_uint8
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Buffer", "Canteen", "canteen_add", "canteen_get", "canteen_try_init", "wait"]

#: Bytes kept for all paths together: far more than any set of fork functions needs.
BUFFER_SIZE = 1024 * 1024

#: Stands between two paths; cannot be part of one.
SEPARATOR = b"\0"

#: Seconds between two looks while waiting; shared memory cannot wake a reader.
POLL_INTERVAL_S = 0.01

#: The memory that holds the paths, one after the other.
Buffer = c_uint8 * BUFFER_SIZE


class Canteen(Structure):
    """The shared structure: whether it was filled, how far, and the paths themselves."""

    _fields_ = [("initialized", c_bool), ("last_position", c_int), ("paths", Buffer)]


def canteen_add(canteen: Any, path: str) -> None:
    """Append a path.

    Args:
        canteen: A `Canteen`, or a `multiprocessing.Value` around one.
        path: What to append, usually ``module:function``.

    Raises:
        RuntimeError: The path does not fit any more; nothing was written.
    """
    entry = path.encode() + SEPARATOR
    start = canteen.last_position
    end = start + len(entry)
    if end > BUFFER_SIZE:
        raise RuntimeError(f"Cannot add {path!r}: the canteen is full ({BUFFER_SIZE} bytes).")

    canteen.paths[start:end] = entry
    canteen.last_position = end


def canteen_get(canteen: Any, timeout: float = 1) -> list[str]:
    """Return all paths, once they have been written.

    Args:
        canteen: A `Canteen`, or a `multiprocessing.Value` around one.
        timeout: Seconds to wait for the writer.

    Returns:
        The paths in the order in which they were added; empty when nobody wrote in time.
    """
    if not wait(canteen, timeout):
        return []

    written = bytes(canteen.paths[: canteen.last_position])
    return [entry.decode() for entry in written.split(SEPARATOR) if entry]


def wait(canteen: Any, timeout: float) -> bool:
    """Wait until the canteen was filled.

    Args:
        canteen: A `Canteen`, or a `multiprocessing.Value` around one.
        timeout: Seconds.

    Returns:
        Whether it was filled in time.
    """
    deadline = time.monotonic() + timeout
    while not canteen.initialized:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            return False
        time.sleep(min(POLL_INTERVAL_S, remaining_s))
    return True


@contextmanager
def canteen_try_init(cv: Any) -> Iterator[bool]:
    """Let exactly one of many processes fill the canteen.

    Whoever enters first gets True and marks the canteen as filled on the way out, even when it
    failed: readers must not wait for a writer that gave up. Everybody else gets False, and only
    after the first one is done.

    Args:
        cv: A `multiprocessing.Value` around a `Canteen`.

    Yields:
        Whether the caller is the one that writes.
    """
    with cv.get_lock():
        if cv.initialized:
            yield False
            return

        try:
            yield True
        finally:
            cv.initialized = True
