"""Connections to memcached: what result and rate limiter backends share.

A client of ``pylibmc`` belongs to one thread at a time, so there is a pool of them. May be used
from any thread, and after a fork.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

try:
    import pylibmc  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Backends on memcached need the package pylibmc: pip install 'dramatiq[memcached]'",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Clients", "NotFound", "expiry_of", "key_of"]

#: What a client raises for a key that is not there, where it matters.
NotFound = pylibmc.NotFound

#: The longest key, in bytes.
#: https://github.com/memcached/memcached/blob/master/doc/protocol.txt, as for the next two.
LONGEST_KEY = 250
#: Bytes that would end a key, and make the rest of it a command.
_ENDS_KEY = re.compile(rb"[\x00-\x20\x7f]")
#: Seconds above which an expiry is taken for a moment, in UNIX time.
LONGEST_RELATIVE_EXPIRY_S = 60 * 60 * 24 * 30
#: The latest moment it can tell, in UNIX time.
LATEST_EXPIRY_S = 2**31 - 1


class Clients:
    """A pool of clients that survives a fork.

    Args:
        pool: The pool to use, if there is one: a ``pylibmc.ClientPool`` or something like it.
        size: How many clients to make otherwise: so many threads can work at a time.
        parameters: Arguments of ``pylibmc.Client`` for them; ``servers`` is required.
    """

    def __init__(self, pool: Any, size: int, parameters: dict[str, Any]) -> None:
        self._pool = pool or pylibmc.ClientPool(pylibmc.Client(**parameters), size)
        self._pid = os.getpid()
        self._parents_pools: list[Any] = []

    @property
    def pool(self) -> Any:
        """The pool of this process."""
        if self._pid != os.getpid():
            # The parent goes on using its connections, and an end of ours would end them: what
            # it had is kept, untouched, and copied without its connections.
            parents = self._pool
            self._parents_pools.append(parents)
            self._pool, self._pid = _copy(parents), os.getpid()
        return self._pool

    @contextmanager
    def reserve(self) -> Iterator[Any]:
        """Lend a client; wait for one if all are taken."""
        with self.pool.reserve(block=True) as client:
            yield client


def _copy(pool: Any) -> Any:
    if not isinstance(pool, pylibmc.ClientPool):
        return pool
    copy = pylibmc.ClientPool()
    # Not by its methods: another thread may have held its lock at the moment of the fork.
    clients = list(pool.queue)
    for index in range(max(pool.maxsize, len(clients))):
        copy.put(clients[index % len(clients)].clone())
    return copy


def key_of(key: str) -> bytes:
    """Return the key under which to store ``key``: itself, or a hash if memcached cannot take it.

    It cannot take white space, control characters, and more than 250 bytes.
    """
    # Bytes, and not for speed: ``gets`` of pylibmc 1.6 encodes a text and frees the bytes before
    # it has sent them, so that with other threads around it asks for another key.
    name = key.encode()
    if name and len(name) <= LONGEST_KEY and not _ENDS_KEY.search(name):
        return name
    return b"dramatiq-key:" + hashlib.blake2b(name, digest_size=20).hexdigest().encode()


def expiry_of(ttl: int) -> int:
    """Return the expiry for a time to live in milliseconds.

    Memcached counts whole seconds; fractions are dropped. But never less than one, for 0 would be
    for ever.
    """
    expiry_s = max(ttl // 1000, 1)
    if expiry_s > LONGEST_RELATIVE_EXPIRY_S:
        expiry_s = min(expiry_s + int(time.time()), LATEST_EXPIRY_S)
    return int(expiry_s)
