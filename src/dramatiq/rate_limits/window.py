"""At most so many within the last seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .rate_limiter import RateLimiter

if TYPE_CHECKING:
    from .backend import RateLimiterBackend

__all__ = ["WindowRateLimiter"]


class WindowRateLimiter(RateLimiter):
    """Lets at most ``limit`` through within the last ``window`` seconds.

    Each second has a count of its own, so a wide window costs as many look-ups as it has seconds.

    Args:
        backend: Where the counts are kept.
        key: What is limited.
        limit: How many per window.
        window: Length of the window in **seconds**.
    """

    def __init__(
        self, backend: RateLimiterBackend, key: str, *, limit: int = 1, window: int = 1
    ) -> None:
        assert limit >= 1, "limit must be positive"  # noqa: S101 (part of the contract)
        assert window >= 1, "window must be positive"  # noqa: S101 (as above)
        super().__init__(backend, key)
        self.limit = limit
        self.window = window

    def _acquire(self) -> bool:
        return self.backend.incr_and_sum(
            f"{self.key}@{int(time.time())}",
            self._window_keys,
            1,
            self.limit,
            self.window * 1000,
        )

    def _window_keys(self) -> list[str]:
        """Return the keys of the seconds that count now.

        A backend may ask again after losing a race: the window must not stand still meanwhile.
        """
        now_s = int(time.time())
        return [f"{self.key}@{now_s - age_s}" for age_s in range(self.window)]

    def _release(self) -> None:
        """Nothing: what passed counts until the window has moved on."""
