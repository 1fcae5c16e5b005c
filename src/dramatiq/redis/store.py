"""Small values under many keys: what result and rate limiter backends do with Redis.

Unlike a broker's, their keys are anybody's, so in a cluster they lie on many nodes. There the
cluster's own client finds the node; everywhere else a `Link` saves its detours. May be used from
any thread, and after a fork.
"""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING, Any

from redis.client import NEVER_DECODE

from ..errors import BrokerConnectionError
from .failures import RedisTimedOut, explain, is_passing
from .link import LinkPool, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .link import Link
    from .script import Script

__all__ = ["Store"]

#: Seconds one command waits in the server: short enough that a dead connection shows, and that a
#: time limit can interrupt the waiter, and long enough that waiting costs nothing.
SLICE_S = 2.0
#: The shortest slice, in seconds: less may be rounded to 0, which would mean to wait for ever.
SHORTEST_SLICE_S = 0.01
#: Seconds an answer may come after the end of its slice.
GRACE_S = 2.0
#: Seconds until a next attempt, where waiting failed.
PAUSE_S = 0.2
#: Seconds without an answer after which a cluster's client gives up, unless it says otherwise:
#: the smallest default of the versions there are.
CLUSTER_TIMEOUT_S = 5.0


class Store:
    """Runs commands and scripts, and waits for lists.

    Args:
        client: A client of the ``redis`` package, for one server, a cluster or sentinels; whether
            it decodes responses does not matter.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._links = LinkPool(client, b"")

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie on many nodes."""
        return hasattr(self._client, "get_node_from_key")

    def have_one_slot(self, keys: Sequence[str]) -> bool:
        """Tell whether one command may use all of ``keys``."""
        return not self.is_cluster or len({self._client.keyslot(key) for key in keys}) <= 1

    def call(self, *command: object) -> Any:
        """Run one command and return its answer, bytes where it is text.

        Raises:
            BrokerConnectionError: If the server cannot be reached or is not able to work. It is
                not known then what it has done.
            redis.ResponseError: If it refuses the command.
        """
        if self.is_cluster:
            return self._call_cluster(command)
        with self._links.borrow() as link:
            _drop_if_stale(link)
            [answer] = link.call([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, script: Script, keys: Sequence[str], *arguments: object) -> Any:
        """Run a script and return its answer; see `call`."""
        names = tuple(key.encode() for key in keys)
        if self.is_cluster:
            # Each node would have to get to know the script first.
            return self.call(*script.call_with_text(script.call(names, arguments)))
        with self._links.borrow() as link:
            _drop_if_stale(link)
            [answer] = link.run([(script, names, arguments)])
            return answer

    def first(self, key: str) -> bytes | None:
        """Return the first element of a list, None if there is none; see `call`."""
        element: bytes | None = self.call(b"LINDEX", key.encode(), 0)
        return element

    def wait_for_first(self, key: str, deadline_s: float | None) -> bytes | None:
        """Wait until a list has an element, and return the first, which stays where it is.

        All who wait are woken. A connection that dies meanwhile is replaced.

        Args:
            key: The list.
            deadline_s: Until when, on the monotonic clock; None is for ever.

        Returns:
            None if there is no element in time.

        Raises:
            BrokerConnectionError: If the server cannot be asked when the time is over.
            redis.ResponseError: If the key is not a list.
        """
        until_s = math.inf if deadline_s is None else deadline_s
        waits = True
        while True:
            remaining_s = until_s - time.monotonic()
            try:
                if waits and remaining_s > 0:
                    element = self._wait(key, min(remaining_s, self._slice_s()))
                else:
                    element = self.first(key)
            except BrokerConnectionError:
                pause_s = min(PAUSE_S, until_s - time.monotonic())
                if pause_s <= 0:
                    raise
                time.sleep(pause_s)
                # A server that is full or a replica cannot let us wait, but can let us look.
                waits = False
                continue
            if element is not None or remaining_s <= 0:
                return element
            waits = True

    def _wait(self, key: str, slice_s: float) -> bytes | None:
        # Moving the head of a list onto itself changes nothing, not even when it expires, but
        # waits until there is one. https://redis.io/docs/latest/commands/blmove/
        name = key.encode()
        command = (b"BLMOVE", name, name, b"LEFT", b"LEFT", max(slice_s, SHORTEST_SLICE_S))
        element: bytes | None
        if self.is_cluster:
            element = self._call_cluster(command)
            return element
        with self._links.borrow() as link:
            _drop_if_stale(link)
            link.send([command])
            if not _has_input(link, slice_s + GRACE_S):
                link.close()
                raise RedisTimedOut(f"Redis at {link.where} did not answer in time.")
            [element] = link.receive(1)
        if isinstance(element, Exception):
            raise element
        return element

    def _slice_s(self) -> float:
        """Return how long to wait in the server at a time."""
        if not self.is_cluster:
            return SLICE_S  # We wait for the answer ourselves: the client's patience is no matter.
        options: dict[str, Any] = self._client.nodes_manager.connection_kwargs
        return min(SLICE_S, (options.get("socket_timeout") or CLUSTER_TIMEOUT_S) / 2)

    def _call_cluster(self, command: tuple[object, ...]) -> Any:
        # It looks the name up in tables of its own.
        name = command[0].decode() if isinstance(command[0], bytes) else command[0]
        try:
            return self._client.execute_command(name, *command[1:], **{NEVER_DECODE: []})
        except Exception as error:
            if is_passing(error):
                raise explain(error, describe(self._client)) from error
            raise


def _drop_if_stale(link: Link) -> None:
    """Close a connection that the server has closed while it was idle.

    Nobody could tell from a failed command whether it was carried out.
    """
    if link.is_open and _has_input(link, 0):
        link.close()


def _has_input(link: Link, timeout_s: float) -> bool:
    poll = select.poll()  # not select(): descriptors may be numbered high
    poll.register(link.fileno(), select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
