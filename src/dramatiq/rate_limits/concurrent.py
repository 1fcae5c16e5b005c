"""At most so many at a time; a mutex across processes when that is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rate_limiter import RateLimiter

if TYPE_CHECKING:
    from .backend import RateLimiterBackend

__all__ = ["ConcurrentRateLimiter"]


class ConcurrentRateLimiter(RateLimiter):
    """Lets at most ``limit`` holders in at a time.

    Args:
        backend: Where the count is kept.
        key: What is limited.
        limit: How many may hold a slot at a time.
        ttl: Milliseconds after the last change until the count is forgotten, so that a holder
            that died gives its slot back in the end. Must exceed the longest time a slot is held.
    """

    def __init__(
        self, backend: RateLimiterBackend, key: str, *, limit: int = 1, ttl: int = 900_000
    ) -> None:
        assert limit >= 1, "limit must be positive"  # noqa: S101 (part of the contract)
        super().__init__(backend, key)
        self.limit = limit
        self.ttl = ttl

    def _acquire(self) -> bool:
        if self.backend.add(self.key, 1, self.ttl):
            return True
        return self.backend.incr(self.key, 1, self.limit, self.ttl)

    def _release(self) -> None:
        # Refused when the count expired in between: then there is nothing to give back.
        self.backend.decr(self.key, 1, 0, self.ttl)
