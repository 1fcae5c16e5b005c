"""At most so many per slot of time, slots being the same for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common import current_millis
from .rate_limiter import RateLimiter

if TYPE_CHECKING:
    from .backend import RateLimiterBackend

__all__ = ["BucketRateLimiter"]


class BucketRateLimiter(RateLimiter):
    """Lets at most ``limit`` through per slot of ``bucket`` milliseconds.

    Slots are aligned to the UNIX epoch, so up to twice the limit may pass around the border of
    two; `WindowRateLimiter` has no borders.

    Args:
        backend: Where the counts are kept.
        key: What is limited.
        limit: How many per slot.
        bucket: Length of a slot in milliseconds.
    """

    def __init__(
        self, backend: RateLimiterBackend, key: str, *, limit: int = 1, bucket: int = 1000
    ) -> None:
        assert limit >= 1, "limit must be positive"  # noqa: S101 (part of the contract)
        super().__init__(backend, key)
        self.limit = limit
        self.bucket = bucket

    def _acquire(self) -> bool:
        now = current_millis()
        key = f"{self.key}@{now - now % self.bucket}"
        if self.backend.add(key, 1, self.bucket):
            return True
        return self.backend.incr(key, 1, self.limit, self.bucket)

    def _release(self) -> None:
        """Nothing: what passed counts until its slot is over."""
