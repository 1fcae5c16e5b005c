"""What backends have in common that keep counters in a database: the rules, in its transactions."""

from __future__ import annotations

import abc
import time
from itertools import count
from typing import TYPE_CHECKING, ClassVar

from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ROWS_PER_SWEEP", "CountersBackend", "CountersInTransaction"]

#: How much longer each pause of a waiter is than the one before.
PAUSE_GROWTH = 1.25
#: One write in so many deletes expired rows too, up to the second number: four times as many as
#: are written meanwhile, so that they cannot pile up, and few enough not to hold others up.
WRITES_PER_SWEEP = 16
ROWS_PER_SWEEP = 64


class CountersInTransaction(abc.ABC):
    """The counters as one transaction sees them, which has them for itself."""

    __slots__ = ()

    @abc.abstractmethod
    def read(self, key: str) -> int | None:
        """Return the value of a key, None if it is absent or has expired."""

    @abc.abstractmethod
    def sum(self, keys: list[str]) -> int:
        """Return the sum of the values of many keys."""

    @abc.abstractmethod
    def write(self, key: str, value: int, ttl: int) -> None:
        """Set a key, for so many milliseconds."""

    @abc.abstractmethod
    def sweep(self) -> None:
        """Delete some of what has expired."""

    def decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from a key unless it would fall below ``minimum``."""
        value = (self.read(key) or 0) - amount
        if value < minimum:
            return False
        self.write(key, value, ttl)
        return True


class CountersBackend(RateLimiterBackend):
    """Base class of backends in databases. Subclasses say what a transaction is."""

    #: Seconds between two looks of a waiter: the first pause, and the longest.
    first_pause_s: ClassVar[float]
    longest_pause_s: ClassVar[float]

    def __init__(self) -> None:
        self._writes = count()

    def _transact(
        self, keys: list[str], operation: Callable[[CountersInTransaction], bool]
    ) -> bool:
        """Run an operation in a transaction that has these keys for itself."""
        raise NotImplementedError

    def _look(self, key: str) -> bool:
        """Tell whether an event is there."""
        raise NotImplementedError

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""

        def add(counters: CountersInTransaction) -> bool:
            if counters.read(key) is not None:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change([key], add)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""

        def increase(counters: CountersInTransaction) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        return self._change([key], increase)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        return self._change([key], lambda counters: counters.decrease(key, amount, minimum, ttl))

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``."""
        all_keys = list(keys())

        def increase(counters: CountersInTransaction) -> bool:
            value = (counters.read(key) or 0) + amount
            if value > maximum or counters.sum(all_keys) + amount > maximum:
                return False
            counters.write(key, value, ttl)
            return True

        # Whoever adds to one of the others meanwhile would not be counted.
        return self._change([key, *all_keys], increase)

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``, once."""
        member_key = f"{key}@{member}"

        def arrive(counters: CountersInTransaction) -> bool:
            answer = counters.read(member_key)
            if answer is None:
                answer = int(not counters.decrease(key, 1, 1, ttl))
            counters.write(member_key, answer, ttl)
            return bool(answer)

        return self._change([key], arrive)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Block until an event is there; None waits for ever."""
        deadline_s = None if timeout is None else time.monotonic() + timeout / 1000
        pause_s = self.first_pause_s
        while not self._look(key):
            if deadline_s is not None:
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0:
                    return False
                pause_s = min(pause_s, remaining_s)
            time.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_GROWTH, self.longest_pause_s)
        return True

    def _change(self, keys: list[str], change: Callable[[CountersInTransaction], bool]) -> bool:
        """Run ``change`` in a transaction of its own, and tell what it did."""
        sweeps = next(self._writes) % WRITES_PER_SWEEP == 0

        def operation(counters: CountersInTransaction) -> bool:
            if sweeps:
                counters.sweep()
            return change(counters)

        return self._transact(keys, operation)
