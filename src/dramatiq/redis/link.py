"""A connection of one's own: many commands in one round trip, and a deadline for every answer.

The client's own methods are convenient and slow, and they repeat commands by themselves. A link
takes a connection out of the client's pool, which knows the server, its password, TLS and the
sentinels, and speaks over it directly: what is not answered is not repeated but raised.

A `Link` belongs to one thread at a time; a `LinkPool` may be used from any thread. After a fork
both open new connections, and the child closes its copies of those of its parent.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import RedisClusterException

from .client import COMMAND_TIMEOUT_S
from .failures import explain, explain_opening, is_moved, is_passing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .script import Script

__all__ = ["Call", "Link", "LinkPool"]

#: A script with its keys and arguments.
Call = tuple["Script", tuple[bytes, ...], tuple[object, ...]]

#: What `get_connection` is called with: before version 5.3 the name of a command had to be given.
_COMMAND_NAME = ("EVALSHA",) if tuple(map(int, redis.__version__.split(".")[:2])) < (5, 3) else ()

#: Most connections that a pool keeps open while nobody uses them. A crowd of senders must not hold
#: the descriptors of its process for ever.
MAX_IDLE = 16

_TROUBLE = (redis.ConnectionError, redis.TimeoutError, RedisClusterException, OSError)


#: All of this process.
_links: weakref.WeakSet[Link] = weakref.WeakSet()
_link_pools: weakref.WeakSet[LinkPool] = weakref.WeakSet()


class Link:
    """One connection.

    Args:
        client: Whose pool to take it from.
        key: Any of the keys that will be used: in a cluster, it decides on the node.
    """

    def __init__(self, client: Any, key: bytes) -> None:
        self._client = client
        self._key = key
        self._pool: Any = None
        self._connection: Any = None
        self._pid = 0
        self._is_layout_stale = False
        #: What the pool thinks of timeouts, for the connection's next user.
        self._patience_s: float | None = None
        #: Tells this link from all others, whoever has them.
        self.name = os.urandom(12).hex()
        #: For whoever wants to number what is done over this link.
        self.sequence = 0
        _links.add(self)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None and self._pid == os.getpid()

    def fileno(self) -> int:
        """Return the descriptor to poll for answers."""
        return int(self._connection._sock.fileno())

    def call(self, commands: Sequence[tuple[object, ...]]) -> list[Any]:
        """Send commands in one go and return their answers, bytes where they are text.

        An answer that is an error is returned as the exception it stands for, unless it says
        that the server cannot do anything for a while.

        Raises:
            BrokerConnectionError: If the server cannot be reached or is not able to work. It is
                not known then what it has done.
        """
        self.send(commands)
        return self.receive(len(commands))

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip, and a second one for those the server does not know.

        Raises:
            BrokerConnectionError: As for `call`.
            redis.ResponseError: If a script fails.
        """
        commands = [script.call(keys, arguments) for script, keys, arguments in calls]
        answers = self.call(commands)
        unknown = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, redis.exceptions.NoScriptError)
        ]
        if unknown:
            repeated = self.call(
                [calls[index][0].call_with_text(commands[index]) for index in unknown]
            )
            for index, answer in zip(unknown, repeated, strict=True):
                answers[index] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def send(self, commands: Sequence[tuple[object, ...]]) -> None:
        """Send commands whose answers are to be taken with `receive`.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        connection = self._connection if self.is_open else self._open()
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        except _TROUBLE as error:
            raise self._lose(error) from error
        except BaseException:
            self.close()
            raise

    def receive(self, count: int) -> list[Any]:
        """Return so many answers; see `call`."""
        answers: list[Any] = []
        try:
            while len(answers) < count:
                try:
                    answers.append(self._connection.read_response(disable_decoding=True))
                except redis.ResponseError as error:
                    answers.append(error)
        except _TROUBLE as error:
            raise self._lose(error) from error
        except BaseException:
            # Interrupted between two answers: nobody could tell whose the next one is.
            self.close()
            raise
        for answer in answers:
            if isinstance(answer, Exception) and is_passing(answer):
                # The next connection may lead to another server.
                raise self._lose(answer) from answer
        return answers

    def close(self) -> None:
        """Close the connection; a next use opens another. Harmless when called twice."""
        connection, self._connection = self._connection, None
        if connection is None or self._pid != os.getpid():
            return
        with suppress(*_TROUBLE):
            connection.disconnect()
        connection.socket_timeout = self._patience_s
        self._pool.release(connection)

    def after_fork_in_child(self) -> None:
        """Close the copy of a connection that goes on in the parent."""
        _unlock(self._pool)
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*_TROUBLE):
                # The client library tells by the process id that it must not shut it down.
                connection.disconnect()

    @property
    def where(self) -> str:
        """The server, without its password."""
        return describe(self._client)

    def _open(self) -> Any:
        self._connection = None
        try:
            self._pool = self._find_pool()
            connection = self._pool.get_connection(*_COMMAND_NAME)
        except _TROUBLE as error:
            self._is_layout_stale = True
            raise explain_opening(error, self.where) from error
        try:
            # It may come from the pool with somebody else's idea of patience.
            connection.disconnect()
            self._patience_s = connection.socket_timeout
            patience_s = self._patience_s or COMMAND_TIMEOUT_S
            connection.socket_timeout = min(patience_s, COMMAND_TIMEOUT_S)
            connection.connect()
        except _TROUBLE as error:
            # It may be that its node is gone from the cluster.
            self._is_layout_stale = True
            self._pool.release(connection)
            raise explain_opening(error, self.where) from error
        except BaseException:
            self._pool.release(connection)
            raise
        self._connection = connection
        self._pid = os.getpid()
        return connection

    def _find_pool(self) -> Any:
        if not hasattr(self._client, "get_node_from_key"):
            return self._client.connection_pool
        if self._is_layout_stale:
            self._client.nodes_manager.initialize()
            self._is_layout_stale = False
        node = self._client.get_node_from_key(self._key.decode())
        return self._client.get_redis_connection(node).connection_pool

    def _lose(self, error: BaseException) -> Exception:
        self._is_layout_stale = self._is_layout_stale or is_moved(error) or not self.is_open
        self.close()
        return explain(error, self.where)


class LinkPool:
    """Links for whoever needs one for a moment: as many as there are threads at it at a time.

    Args:
        client: See `Link`.
        key: See `Link`.
    """

    def __init__(self, client: Any, key: bytes) -> None:
        self._client = client
        self._key = key
        self._idle: deque[Link] = deque()
        _link_pools.add(self)

    @contextmanager
    def borrow(self) -> Iterator[Link]:
        """Lend a link."""
        try:
            link = self._idle.pop()
        except IndexError:
            link = Link(self._client, self._key)
        try:
            yield link
        except BaseException:
            # A time limit may strike between a command and its answer, which would be taken for
            # somebody else's.
            link.close()
            raise
        finally:
            self._take_back(link)

    def _take_back(self, link: Link) -> None:
        # Those that are open are lent first. One that could not be opened must not come before
        # them: it would fail again where only they are left.
        if link.is_open:
            self._idle.append(link)
        else:
            self._idle.appendleft(link)
        if len(self._idle) > MAX_IDLE:
            with suppress(IndexError):  # others may have taken them all meanwhile
                self._idle.popleft().close()

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts over any link; see `Link.run`."""
        with self.borrow() as link:
            return link.run(calls)

    def close(self) -> None:
        """Close the idle links; a next use opens others."""
        while self._idle:
            self._idle.pop().close()

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent goes on using its connections."""
        self._idle = deque()
        _unlock(getattr(self._client, "connection_pool", None))


def _unlock(pool: Any) -> None:
    """Give a pool of the client library new locks, in the child of a fork.

    Another thread of the parent may have held one of them at the moment of the fork. In the child
    there is no such thread, and version 8 of the library would wait for it for ever.
    """
    for name in ("_lock", "_fork_lock"):
        if hasattr(pool, name):
            setattr(pool, name, threading.RLock())


def describe(client: Any) -> str:
    """Return where a client's server is, for people to read and without the password."""
    pool: Any = getattr(client, "connection_pool", None)
    options: dict[str, Any] = getattr(pool, "connection_kwargs", {})
    if "path" in options:
        return f"unix://{options['path']}"
    if getattr(pool, "service_name", None):
        return f"the master {pool.service_name!r} of its sentinels"
    if "host" not in options:
        return "its cluster" if hasattr(client, "get_node_from_key") else "localhost:6379"
    return f"{options['host']}:{options.get('port', 6379)}/{options.get('db', 0)}"


def _after_fork_in_child() -> None:
    # Links first: their pools drop them, but the client library would keep their connections.
    for link in list(_links):
        link.after_fork_in_child()
    for pool in list(_link_pools):
        pool.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
