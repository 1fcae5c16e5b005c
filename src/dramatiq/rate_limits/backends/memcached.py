"""Counters in memcached, laid out as 2.x does, so that fleets of both share them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...memcached import Clients, NotFound, expiry_of, key_of
from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["MemcachedBackend"]


class MemcachedBackend(RateLimiterBackend):
    """Keeps counters in memcached, which may forget them at any time: it is a cache.

    A counter changes by comparison: it is read, and written if nobody has changed it meanwhile.
    There are no events, so that a `Barrier` works with ``block=False`` only, and counts every
    arrival. `incr_and_sum` changes one counter in one step, but others may change between the
    sum and that step. Counters live for whole seconds, at least one. Errors leave as those of
    ``pylibmc``.

    Args:
        pool: A ``pylibmc.ClientPool`` to use.
        pool_size: How many clients there are if there is no pool: so many threads count at a time.
        parameters: Arguments of ``pylibmc.Client``, ``servers=["127.0.0.1"]`` for example, where
            there is no pool.
    """

    def __init__(self, *, pool: Any = None, pool_size: int = 8, **parameters: Any) -> None:
        self._clients = Clients(pool, pool_size, parameters)

    @property
    def pool(self) -> Any:
        """The clients in use; others after a fork."""
        return self._clients.pool

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""
        with self._reserve() as client:
            return bool(client.add(key_of(key), value, time=expiry_of(ttl)))

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""
        with self._reserve() as client:
            return _change(client, key, amount, ttl, lambda value: value <= maximum)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        with self._reserve() as client:
            return _change(client, key, -amount, ttl, lambda value: value >= minimum)

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``."""
        with self._reserve() as client:

            def is_allowed(value: int) -> bool:
                if value > maximum:
                    return False
                values = client.get_multi([key_of(each) for each in keys()])
                return bool(amount + sum(values.values()) <= maximum)

            return _change(client, key, amount, ttl, is_allowed)

    def wait(self, key: str, timeout: int | None) -> bool:
        """Refuse: memcached wakes nobody.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "memcached has no events to wait for: use block=False, or a backend for Redis"
        )

    @contextmanager
    def _reserve(self) -> Iterator[Any]:
        with self._clients.reserve() as client:
            if not client.behaviors["cas"]:
                client.set_behaviors({"cas": True})
            yield client


def _change(
    client: Any, key: str, amount: int, ttl: int, is_allowed: Callable[[int], bool]
) -> bool:
    """Add to a counter if its new value is allowed, and tell whether it was."""
    name = key_of(key)
    # Each time round, somebody else has made a change: together they get on.
    while True:
        value, token = client.gets(name)
        new_value = (value or 0) + amount
        if not is_allowed(new_value):
            return False
        if value is None:
            if client.add(name, new_value, time=expiry_of(ttl)):
                return True
            continue
        try:
            if client.cas(name, new_value, token, time=expiry_of(ttl)):
                return True
        except NotFound:
            continue  # It expired.
