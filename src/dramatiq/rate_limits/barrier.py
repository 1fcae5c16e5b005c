"""Wait until all of many parties have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backend import RateLimiterBackend

__all__ = ["Barrier"]


class Barrier:
    """A barrier across threads and, with a shared store, processes.

    The stored value is the number of parties still missing. The last arrival leaves it at 1, so
    that every later one finds the barrier clear. One that expired or was never made is clear too.

    Args:
        backend: Where the count is kept.
        key: The barrier's name; use a new one each time.
        ttl: Milliseconds the barrier lives after it was made and after each arrival.

    Attributes:
        key_events: The event that blocked parties wait for.
    """

    def __init__(self, backend: RateLimiterBackend, key: str, *, ttl: int = 900_000) -> None:
        self.backend = backend
        self.key = key
        self.key_events = f"{key}@events"
        self.ttl = ttl

    def create(self, parties: int) -> bool:
        """Make the barrier for so many parties, at least one.

        Returns:
            False if there is one of that key already, which then stays as it is.
        """
        assert parties > 0, "parties must be positive"  # noqa: S101 (part of the contract)
        return self.backend.add(self.key, parties, self.ttl)

    def wait(self, *, block: bool = True, timeout: int | None = None) -> bool:
        """Arrive, and wait for the others.

        Args:
            block: Whether to wait until all arrived.
            timeout: Milliseconds to wait at most; None means for ever, where the backend can.

        Returns:
            Whether all have arrived: always for the last, who wakes the others.
        """
        if not self.backend.decr(self.key, 1, 1, self.ttl):
            self.backend.wait_notify(self.key_events, self.ttl)
            return True
        return self.backend.wait(self.key_events, timeout) if block else False

    def arrive(self, member: str) -> bool:
        """Arrive as ``member`` without waiting for the others.

        Where the backend can, a member that arrives again, after a crash for example, is not
        counted again and gets the answer it got first.

        Returns:
            Whether all have arrived.
        """
        if not self.backend.arrive(self.key, member, self.ttl):
            return False
        self.backend.wait_notify(self.key_events, self.ttl)
        return True
