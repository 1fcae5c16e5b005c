"""Results in memcached, laid out as 2.x does, so that fleets of both read each other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...memcached import Clients, expiry_of, key_of
from ..backend import Missing, ResultBackend

if TYPE_CHECKING:
    from ...encoder import Encoder
    from ..backend import MResult, Result

__all__ = ["MemcachedBackend"]


class MemcachedBackend(ResultBackend):
    """Keeps results in memcached, which may forget them at any time: it is a cache.

    Results live for whole seconds, at least one. Waiting means polling. A result may have as many
    bytes as the server allows for an item, 1 MiB by default. Errors leave as those of
    ``pylibmc``.

    Args:
        pool: A ``pylibmc.ClientPool`` to use.
        pool_size: How many clients there are if there is no pool: so many threads read and write
            at a time.
        namespace: See `ResultBackend`.
        encoder: See `ResultBackend`.
        use_namespace_prefix_keys: See `ResultBackend`.
        parameters: Arguments of ``pylibmc.Client``, ``servers=["127.0.0.1"]`` for example, where
            there is no pool.
    """

    def __init__(
        self,
        *,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
        pool: Any = None,
        pool_size: int = 8,
        **parameters: Any,
    ) -> None:
        super().__init__(
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self._clients = Clients(pool, pool_size, parameters)

    @property
    def pool(self) -> Any:
        """The clients in use; others after a fork."""
        return self._clients.pool

    def _get(self, message_key: str) -> MResult:
        with self._clients.reserve() as client:
            data = client.get(key_of(message_key))
        return Missing if data is None else self.encoder.decode(data)

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        data = self.encoder.encode(result)
        with self._clients.reserve() as client:
            client.set(key_of(message_key), data, time=expiry_of(ttl))
