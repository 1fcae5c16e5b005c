"""Counters and events in Redis, laid out as 2.x does, so that fleets of both share them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...redis import Script, Store, make_client
from ..backend import RateLimiterBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...workflows.store import WorkflowStore

__all__ = ["RedisBackend"]

#: The shortest timeout of a wait, in milliseconds, as 2.x demands it.
SHORTEST_TIMEOUT = 1000
#: What the list of an event holds.
_EVENT = b"x"

_FOLDER = Path(__file__).parent / "redis_scripts"
_INCR = Script.load(_FOLDER, "incr")
_DECR = Script.load(_FOLDER, "decr")
_INCR_AND_SUM = Script.load(_FOLDER, "incr_and_sum")
_ARRIVE = Script.load(_FOLDER, "arrive")
_NOTIFY = Script.load(_FOLDER, "notify")

#: The namespace of workflows that are kept beside results and rate limits; in a cluster its keys
#: are on one node.
WORKFLOWS_NAMESPACE = "{dramatiq-workflows}"


class RedisBackend(RateLimiterBackend):
    """Keeps counters and events in Redis, for all machines that reach it.

    Each method is one round trip, carried out in one step by the server. Counts are exact up to
    2**53. Errors of the connection leave as `BrokerConnectionError`, which are errors of the
    ``redis`` package too; nothing is repeated after one, for nobody knows then whether the server
    has counted.

    In a cluster, `incr_and_sum` needs all its keys in one slot: give a `WindowRateLimiter` a key
    with a hash tag, ``{search-api}``.

    Args:
        client: A client of the ``redis`` package to use, for one server, a cluster or sentinels.
        url: Where the server is if there is no client: ``redis://``, ``rediss://`` or
            ``unix://``.
        parameters: Further arguments of ``redis.Redis``, where there is no client.

    Attributes:
        client: The client in use.
    """

    def __init__(self, *, client: Any = None, url: str | None = None, **parameters: Any) -> None:
        self.client: Any = make_client(client=client, url=url, **parameters)
        self._server = Store(self.client)

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set ``key`` to ``value`` unless it is there already."""
        return self._server.call(b"SET", key.encode(), value, b"PX", ttl, b"NX") is not None

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add ``amount`` to ``key`` unless the new value would exceed ``maximum``."""
        return bool(self._server.run(_INCR, [key], amount, maximum, ttl))

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract ``amount`` from ``key`` unless the new value would be below ``minimum``."""
        return bool(self._server.run(_DECR, [key], amount, minimum, ttl))

    def incr_and_sum(
        self,
        key: str,
        keys: Callable[[], Iterable[str]],
        amount: int,
        maximum: int,
        ttl: int,
    ) -> bool:
        """Add ``amount`` to ``key`` unless it, or the sum of many, would exceed ``maximum``.

        Raises:
            ValueError: In a cluster, if the keys do not share a slot.
        """
        names = [key, *keys()]
        if not self._server.have_one_slot(names):
            raise ValueError(
                f"In a Redis cluster, the keys of {key!r} that are summed up must share a slot. "
                "Put the part that they have in common in braces: WindowRateLimiter(backend, "
                f"'{{{key.partition('@')[0]}}}')."
            )
        return bool(self._server.run(_INCR_AND_SUM, names, amount, maximum, ttl))

    def arrive(self, key: str, member: str, ttl: int) -> bool:
        """Count ``member`` in at the barrier ``key``, once.

        The barrier's count is that of 2.x; what each member was told is kept beside it.
        """
        return bool(self._server.run(_ARRIVE, [key, _key_of_members(key)], member, ttl))

    def wait(self, key: str, timeout: int | None) -> bool:
        """Block until an event is there.

        An event is kept for its time to live: one that was sent before the wait is seen too. A
        connection that is lost meanwhile is replaced.

        Args:
            key: The event.
            timeout: How long to wait, at least a second; None means for ever.

        Raises:
            AssertionError: If ``timeout`` is less than a second.
            BrokerConnectionError: If the server still cannot be asked when the time is over.
        """
        assert timeout is None or timeout >= SHORTEST_TIMEOUT, (  # noqa: S101 (as in 2.x)
            f"timeout must be at least {SHORTEST_TIMEOUT} milliseconds, or None"
        )
        deadline_s = None if timeout is None else time.monotonic() + timeout / 1000
        return self._server.wait_for_first(key, deadline_s) == _EVENT

    def wait_notify(self, key: str, ttl: int) -> None:
        """Send an event, to be seen for ``ttl`` milliseconds."""
        self._server.run(_NOTIFY, [key], _EVENT, ttl)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.redis import RedisStore  # few applications have workflows

        return RedisStore(self.client, WORKFLOWS_NAMESPACE)


def _key_of_members(key: str) -> str:
    """Return where the members that arrived at a barrier are kept: in a cluster, beside it."""
    # What is in braces decides on the slot.
    return f"{key}#arrived" if "{" in key else f"{{{key}}}#arrived"
