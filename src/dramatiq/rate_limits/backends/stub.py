"""Counters in the memory of this process: for tests, and where one process is all there is."""

from __future__ import annotations

import time
from threading import Condition, Lock
from typing import TYPE_CHECKING

from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...workflows.store import WorkflowStore

__all__ = ["StubBackend"]


class _Event(Condition):
    """A condition that knows how many wait for it, so that the last one can drop it."""

    waiters: int = 0


class StubBackend(RateLimiterBackend):
    """Keeps counters in a dictionary; threads of this process share them, other processes do not.

    `wait` needs a timeout, and sees only events that are sent while it waits.

    Attributes:
        db: Value and expiry, in seconds of the monotonic clock, of each key.
        mutex: Guards ``db`` and ``conditions``.
        conditions: What the waiters of each event wait on.
    """

    def __init__(self) -> None:
        self.db: dict[str, tuple[int, float]] = {}
        self.mutex = Lock()
        self.conditions: dict[str, _Event] = {}
        self._writes_until_sweep = 0

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""
        with self.mutex:
            if self._read(key) is not None:
                return False
            self._write(key, value, ttl)
            return True

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""
        with self.mutex:
            value = (self._read(key) or 0) + amount
            if value > maximum:
                return False
            self._write(key, value, ttl)
            return True

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        with self.mutex:
            return self._decrease(key, amount, minimum, ttl)

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``."""
        with self.mutex:
            value = (self._read(key) or 0) + amount
            total = amount + sum(self._read(each) or 0 for each in keys())
            if value > maximum or total > maximum:
                return False
            self._write(key, value, ttl)
            return True

    def wait(self, key: str, timeout: int | None) -> bool:
        """Block until an event is sent.

        Raises:
            TypeError: If ``timeout`` is None: in memory, nobody else could ever wake the waiter.
        """
        if timeout is None:
            raise TypeError("StubBackend.wait() needs a timeout in milliseconds, got None.")
        with self.mutex:
            event = self.conditions.get(key)
            if event is None:
                event = self.conditions[key] = _Event(self.mutex)
            event.waiters += 1
            try:
                return event.wait(timeout / 1000)
            finally:
                event.waiters -= 1
                if not event.waiters and self.conditions.get(key) is event:
                    del self.conditions[key]

    def wait_notify(self, key: str, ttl: int) -> None:
        """Wake everybody who waits for ``key`` now; ``ttl`` is not used."""
        with self.mutex:
            event = self.conditions.pop(key, None)
            if event is not None:
                event.notify_all()

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``, once."""
        member_key = f"{key}@{member}"
        with self.mutex:
            answer = self._read(member_key)
            if answer is None:
                answer = int(not self._decrease(key, 1, 1, ttl))
            self._write(member_key, answer, ttl)
            return bool(answer)

    def _decrease(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        value = (self._read(key) or 0) - amount
        if value < minimum:
            return False
        self._write(key, value, ttl)
        return True

    def _read(self, key: str) -> int | None:
        value, expires_at_s = self.db.get(key, (None, 0.0))
        return value if time.monotonic() < expires_at_s else None

    def _write(self, key: str, value: int, ttl: int) -> None:
        now_s = time.monotonic()
        self.db[key] = value, now_s + ttl / 1000
        self._writes_until_sweep -= 1
        if self._writes_until_sweep <= 0:
            # In place: db may be looked at from outside. One sweep per as many writes as there
            # are keys keeps the cost per write constant.
            for expired in [each for each, (_, at_s) in self.db.items() if at_s <= now_s]:
                del self.db[expired]
            self._writes_until_sweep = max(len(self.db), 100)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.memory import MemoryStore  # few applications have workflows

        return MemoryStore()
