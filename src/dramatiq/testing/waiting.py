"""Wait for a condition, and start threads together: for the contracts, and for users' tests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_together", "wait_until"]

T = TypeVar("T")

#: Seconds between two looks at a condition.
POLL_INTERVAL_S = 0.005


def wait_until(condition: Callable[[], Any], *, timeout_s: float = 10) -> None:
    """Return as soon as ``condition()`` is true.

    Raises:
        AssertionError: If it is not within ``timeout_s`` seconds.
    """
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{condition} did not hold within {timeout_s} s"
        time.sleep(POLL_INTERVAL_S)


def run_together(count: int, run: Callable[[int], T], *, timeout_s: float = 30) -> list[T]:
    """Call ``run`` with 0, 1, … in so many threads that start at once.

    Returns:
        What the calls returned, in order; raises what the first of them raised.
    """
    together = threading.Barrier(count)

    def start(index: int) -> T:
        together.wait(timeout_s)
        return run(index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count), timeout=timeout_s))
