"""The base class of rate limiters: a context manager around taking and giving back a slot."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import RateLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backend import RateLimiterBackend

__all__ = ["RateLimitExceeded", "RateLimiter"]


class RateLimiter:
    """Base class of rate limiters; subclasses implement `_acquire` and `_release`.

    A limiter holds no state of its own: make one per key and use it from any thread.

    Args:
        backend: Where the counts are kept.
        key: What is limited; limiters with equal keys on one store share their slots.
    """

    def __init__(self, backend: RateLimiterBackend, key: str) -> None:
        self.backend = backend
        self.key = key

    def _acquire(self) -> bool:
        """Try to take a slot; tell whether that worked."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _acquire()")

    def _release(self) -> None:
        """Give a slot back that `_acquire` took."""
        raise NotImplementedError(f"{type(self).__name__} does not implement _release()")

    @contextmanager
    def acquire(self, *, raise_on_failure: bool = True) -> Iterator[bool]:
        """Hold a slot for the duration of a ``with`` block; never waits for one.

        Args:
            raise_on_failure: Whether to raise when there is no slot. If False, the block runs
                all the same and must look at what it was given.

        Yields:
            Whether a slot is held.

        Raises:
            RateLimitExceeded: If there is no slot and ``raise_on_failure`` is True.
        """
        acquired = self._acquire()
        if raise_on_failure and not acquired:
            raise RateLimitExceeded(f"rate limit exceeded for key {self.key!r}")
        try:
            yield acquired
        finally:
            if acquired:
                self._release()
