"""What a store must do for rate limiters and barriers: atomic counters that expire, and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RateLimiterBackend"]


class RateLimiterBackend:
    """Base class of rate limiter backends.

    Every method may be called from any thread and, where the store is shared, from any process;
    each is one atomic step. Keys are used as they are. An absent or expired key counts as 0.
    All times are milliseconds.
    """

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already.

        Args:
            key: The counter.
            value: Its first value; may be negative.
            ttl: How long the key lives.

        Returns:
            Whether it was set.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement add()")

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``.

        Args:
            key: The counter.
            amount: What to add.
            maximum: The largest value it may reach.
            ttl: How long the key lives after this change.

        Returns:
            Whether it was changed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement incr()")

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``.

        Args:
            key: The counter.
            amount: What to subtract.
            minimum: The smallest value it may reach.
            ttl: How long the key lives after this change.

        Returns:
            Whether it was changed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement decr()")

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``.

        Args:
            key: The counter.
            keys: Called at each attempt for the keys to sum up; usually ``key`` is among them.
            amount: What to add.
            maximum: What neither the new value of ``key`` nor ``amount`` plus the sum of all
                ``keys`` may exceed.
            ttl: How long the key lives after this change.

        Returns:
            Whether it was changed.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement incr_and_sum()")

    def wait(self, key: str, timeout: int | None) -> bool:
        """Block until an event arrives.

        Args:
            key: The event.
            timeout: How long to wait; None means for ever, where the backend allows it.

        Returns:
            Whether one arrived in time.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement wait()")

    def wait_notify(self, key: str, ttl: int) -> None:
        """Tell everybody who waits for ``key``.

        Args:
            key: The event.
            ttl: How long a backend that keeps events keeps this one.
        """

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``.

        A backend that can counts each member once: the same member gets the same answer again,
        which makes arrivals safe to repeat after a crash. This default cannot, and counts every
        call.

        Args:
            key: A counter that starts at the number of parties; see `Barrier`.
            member: Who arrives; unique among the parties.
            ttl: How long the barrier lives after this arrival.

        Returns:
            Whether the barrier is clear: all arrived, or it expired, or never was.
        """
        return not self.decr(key, 1, 1, ttl)
