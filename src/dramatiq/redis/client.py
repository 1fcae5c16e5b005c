"""Making the client of the ``redis`` package that brokers and backends work with."""

from __future__ import annotations

import codecs
from typing import Any

try:
    import redis
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Brokers and backends on Redis need the package redis: pip install 'dramatiq[redis]'",
        name=error.name,
    ) from None
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["COMMAND_TIMEOUT_S", "make_client", "place_of"]

#: Seconds without an answer after which a connection counts as dead. Said explicitly, for the
#: client library's default was none before version 8 and is five seconds since.
COMMAND_TIMEOUT_S = 8.0
#: Seconds to open a connection.
CONNECT_TIMEOUT_S = 5.0

# Every connection looks a host name up, which takes this encoding. Where Python cannot load it for
# want of a descriptor, it remembers for the life of the process that there is none.
codecs.lookup("idna")


def make_client(*, client: Any = None, url: str | None = None, **parameters: Any) -> Any:
    """Return ``client`` if there is one, else a new client, which is not connected yet.

    Args:
        client: A client of the ``redis`` package, for one server, a cluster or through sentinels,
            or one with the same methods.
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``; what its query says wins over
            ``parameters``.
        parameters: Further arguments of ``redis.Redis``.

    Raises:
        ValueError: If the URL has another scheme.
    """
    if client is not None:
        return client
    options: dict[str, Any] = {
        "socket_timeout": COMMAND_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        # Ours are the repetitions that know what may be repeated. The client's own, since its
        # version 8, would make a sender wait a quarter of a minute for a server that is not there.
        "retry": Retry(NoBackoff(), 0),
        **_driver_info(parameters),
        **parameters,
    }
    if url is None:
        return redis.Redis(**options)
    if url.startswith("unix://"):
        # Its connections know no such thing as a lost peer.
        options.pop("socket_keepalive")
        options.pop("socket_connect_timeout")
    pool = options.pop("connection_pool", None) or redis.ConnectionPool.from_url(url, **options)
    return redis.Redis(connection_pool=pool)


def _driver_info(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what the client tells the server of itself, if it would look that up by itself.

    It would read the metadata of its package for every connection, which takes two megabytes.
    """
    if not parameters.keys().isdisjoint({"driver_info", "lib_name", "lib_version"}):
        return {}
    try:
        from redis.driver_info import DriverInfo
    except ImportError:  # older ones look it up when they are imported
        return {}
    return {"driver_info": DriverInfo(lib_version=redis.__version__)}


def place_of(client: Any) -> tuple[object, ...] | None:
    """Return server and database of a client; None where that is not one server for ever."""
    pool = getattr(client, "connection_pool", None)
    options: dict[str, Any] = getattr(pool, "connection_kwargs", {})
    if pool is None or hasattr(pool, "service_name") or not {"host", "path"} & options.keys():
        return None
    path = options.get("path")
    server = (path,) if path else (options["host"], int(options.get("port") or 6379))
    return (*server, int(options.get("db") or 0), options.get("username"))
