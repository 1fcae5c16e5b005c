"""Small helpers shared by every layer: clocks, backoff, queue names, draining and joining."""

from __future__ import annotations

import errno
import os
import time
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .errors import QueueJoinTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "NO_DESCRIPTORS",
    "compute_backoff",
    "current_millis",
    "dq_name",
    "getenv_int",
    "iter_queue",
    "join_all",
    "join_queue",
    "lacks_descriptors",
    "monotonic_millis",
    "q_name",
    "xq_name",
]

T = TypeVar("T")

#: Suffix of the queue that holds delayed messages.
DELAY_SUFFIX = ".DQ"
#: Suffix of the queue that holds dead letters.
DEAD_LETTER_SUFFIX = ".XQ"
#: What to say of an error for which `lacks_descriptors` is true.
NO_DESCRIPTORS = (
    "no file descriptor is left to this process. Close files and connections that are not needed, "
    "or allow it more: `ulimit -n`, or LimitNOFILE in a systemd unit"
)


class Joinable(Protocol):
    """Anything that can be joined with a timeout in seconds, a thread for example."""

    def join(self, timeout: float | None = None) -> Any:
        """Wait until done, at most ``timeout`` seconds."""


def getenv_int(name: str) -> int | None:
    """Return the environment variable ``name`` as an integer, or None when it is not set.

    Raises:
        ValueError: If it is set to something that is no integer.
    """
    value = os.getenv(name)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise ValueError(
            f"Environment variable {name} must be an integer, not {value!r}. Fix or unset it."
        ) from None


def compute_backoff(
    attempts: int,
    *,
    factor: int = 5,
    jitter: bool = True,
    max_backoff: int = 2000,
    max_exponent: int = 32,
) -> tuple[int, int]:
    """Return the next attempt's number and how long to wait before it.

    The wait is ``factor * 2 ** attempts``. With jitter it is multiplied by a random number
    between 1 and 2, and a value past the cap becomes one between half the cap and the cap, so
    that callers that failed together do not come back together.

    Args:
        attempts: How many attempts were made so far.
        factor: Milliseconds of the first wait. Zero gives no wait at all.
        jitter: Whether to spread the waits.
        max_backoff: Longest wait in milliseconds.
        max_exponent: Largest exponent; keeps the numbers small.

    Returns:
        ``(attempts + 1, milliseconds)``.
    """
    import random  # it brings the hashes along, which most producers never need

    backoff: float = factor * 2 ** min(attempts, max_exponent)
    if not jitter:
        return attempts + 1, int(min(backoff, max_backoff))
    backoff *= random.uniform(1, 2)  # noqa: S311 (spreading load, not a secret)
    if backoff > max_backoff:
        backoff = max_backoff * random.uniform(0.5, 1)  # noqa: S311 (as above)
    return attempts + 1, int(backoff)


def current_millis() -> int:
    """Return the wall clock in UNIX epoch milliseconds, for moments that are stored."""
    return int(time.time() * 1000)


def monotonic_millis() -> float:
    """Return the monotonic clock in milliseconds: for durations and deadlines in this process."""
    return time.monotonic() * 1000


def iter_queue(queue: Queue[T]) -> Iterator[T]:
    """Yield what is in ``queue`` now, without waiting."""
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def join_queue(queue: Queue[Any], timeout: float | None = None) -> None:
    """Wait until every item of ``queue`` is marked done.

    Args:
        queue: The queue to wait for.
        timeout: Seconds. None waits for ever.

    Raises:
        QueueJoinTimeout: At the deadline.
    """
    if timeout is None:
        queue.join()
        return
    deadline = time.monotonic() + timeout
    with queue.all_tasks_done:
        while queue.unfinished_tasks:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise QueueJoinTimeout(
                    f"timed out after {timeout:.2f} seconds with "
                    f"{queue.unfinished_tasks} unfinished items"
                )
            queue.all_tasks_done.wait(remaining)


def join_all(joinables: Iterable[Joinable], timeout: float) -> None:
    """Join each of ``joinables`` within one budget for all of them.

    Args:
        joinables: Threads or the like.
        timeout: Milliseconds in all. Once used up, the rest are joined without waiting.
    """
    deadline = time.monotonic() + timeout / 1000
    for joinable in joinables:
        joinable.join(timeout=max(0.0, deadline - time.monotonic()))


def q_name(queue_name: str) -> str:
    """Return the canonical name of a queue, its delay queue or its dead-letter queue."""
    if queue_name.endswith((DELAY_SUFFIX, DEAD_LETTER_SUFFIX)):
        return queue_name[:-3]
    return queue_name


def dq_name(queue_name: str) -> str:
    """Return the name of the delay queue that belongs to ``queue_name``."""
    if queue_name.endswith(DELAY_SUFFIX):
        return queue_name
    return q_name(queue_name) + DELAY_SUFFIX


def xq_name(queue_name: str) -> str:
    """Return the name of the dead-letter queue that belongs to ``queue_name``."""
    if queue_name.endswith(DEAD_LETTER_SUFFIX):
        return queue_name
    return q_name(queue_name) + DEAD_LETTER_SUFFIX


def lacks_descriptors(error: BaseException) -> bool:
    """Tell whether an error was raised because this process may not open any more files."""
    reason: BaseException | None = error
    while reason is not None:
        if _is_about_descriptors(reason):
            return True
        reason = reason.__cause__ or reason.__context__
    # SQLite and name resolution do not say why they could not open something.
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as failure:
        return _is_about_descriptors(failure)
    return False


def _is_about_descriptors(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}
