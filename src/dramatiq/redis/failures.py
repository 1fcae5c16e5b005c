"""What Redis's errors mean, and what to do about each.

The errors made here belong to both trees: this library's, so that a worker waits them out, and
the client library's, so that code that catches those keeps working.
"""

from __future__ import annotations

import redis
from redis import exceptions

from ..common import NO_DESCRIPTORS, lacks_descriptors
from ..errors import BrokerConnectionError, ConnectionClosed, ConnectionFailed

__all__ = [
    "RedisClosed",
    "RedisFailed",
    "RedisRefused",
    "RedisTimedOut",
    "explain",
    "is_moved",
    "is_out_of_memory",
    "is_passing",
]


class RedisClosed(ConnectionClosed, redis.ConnectionError):
    """Raised when a connection to Redis is lost."""


class RedisFailed(ConnectionFailed, redis.ConnectionError):
    """Raised when a connection to Redis cannot be opened."""


class RedisTimedOut(ConnectionClosed, redis.TimeoutError):
    """Raised when Redis does not answer in time."""


class RedisRefused(ConnectionClosed, redis.ResponseError):
    """Raised when Redis answers that it cannot carry out commands at present."""


#: For each error code with which a server says that it cannot do anything for a while: what it
#: means and what helps. https://redis.io/docs/latest/develop/reference/protocol-spec/
_PASSING = {
    "ASK": "it moves the keys to another node of the cluster",
    "BUSY": "it is busy with a script that does not end; SCRIPT KILL ends it",
    "CLUSTERDOWN": "its cluster is down. Look at CLUSTER INFO on its nodes",
    "LOADING": "it is loading its data after a start",
    "MASTERDOWN": "it is a replica that lost its master",
    "MISCONF": "it cannot write to its disk, and refuses changes. Look at its log",
    "MOVED": "the keys are on another node of the cluster",
    "NOREPLICAS": "too few replicas are connected (min-replicas-to-write)",
    "OOM": (
        "it has reached its maxmemory. Consumers go on emptying the queues, which frees memory; "
        "raise maxmemory, and keep maxmemory-policy at noeviction so that no message is dropped"
    ),
    "READONLY": "it is a replica now and takes no writes. Was there a failover?",
    "TRYAGAIN": "it moves the keys to another node of the cluster",
    "UNBLOCKED": "it became a replica while we waited",
}
#: Classes of the client library that hide the code in their text.
_CODES: dict[type[BaseException], str] = {
    exceptions.AskError: "ASK",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.TryAgainError: "TRYAGAIN",
}


def _code_of(error: BaseException) -> str:
    """Return the server's code for an error, "" if it is not one of those that pass."""
    code = _CODES.get(type(error))
    if code is None:
        first = str(error).partition(" ")[0]
        code = first if first in _PASSING and isinstance(error, redis.ResponseError) else ""
    return code


def is_passing(error: BaseException) -> bool:
    """Tell trouble with the connection or the server from a mistake in one command."""
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)):
        return True
    # A cluster's client that finds no node to talk to.
    if isinstance(error, exceptions.RedisClusterException):
        return True
    return bool(_code_of(error))


def is_moved(error: BaseException) -> bool:
    """Tell whether the layout of the cluster has changed."""
    return _code_of(error) in {"ASK", "CLUSTERDOWN", "MOVED", "TRYAGAIN"}


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, means that Redis has reached its maxmemory."""
    while error is not None:
        if _code_of(error) == "OOM":
            return True
        error = error.__cause__
    return False


def explain(error: BaseException, where: str) -> BrokerConnectionError:
    """Return the error to raise for one that `is_passing`.

    Args:
        error: What the client library raised.
        where: The server, without its password.
    """
    if isinstance(error, BrokerConnectionError):
        return error
    code = _code_of(error)
    if code:
        return RedisRefused(f"Redis at {where}: {_PASSING[code]}. ({error})")
    if isinstance(error, redis.AuthenticationError):
        return RedisFailed(f"Redis at {where} refuses the user or the password. ({error})")
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return RedisTimedOut(f"Redis at {where} did not answer in time. ({error})")
    return RedisClosed(f"Redis at {where}: {str(error) or type(error).__name__}")


def explain_opening(error: BaseException, where: str) -> BrokerConnectionError:
    """Return the error to raise where a connection could not be opened."""
    if _code_of(error) or isinstance(error, redis.AuthenticationError):
        return explain(error, where)
    if lacks_descriptors(error):
        return RedisFailed(f"Cannot connect to Redis at {where}: {NO_DESCRIPTORS}. ({error})")
    return RedisFailed(f"Cannot connect to Redis at {where}. Does it run? ({error})")
