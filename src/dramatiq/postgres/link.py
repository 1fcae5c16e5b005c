"""One connection that is opened when it is used, and on which no call waits for ever.

The client library waits for an answer as long as the kernel believes in the connection. A server
that is stopped, or a network that swallows what is sent, would hold a worker up without end; so
every statement has a deadline of our own.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from ..failpoints import hit
from .failures import explain, explain_opening

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

__all__ = ["COMMAND_TIMEOUT_S", "CONNECT_TIMEOUT_S", "Link", "open_connection"]

T = TypeVar("T")

#: Seconds without an answer after which a connection counts as dead.
COMMAND_TIMEOUT_S = 10.0
#: Seconds to open a connection.
CONNECT_TIMEOUT_S = 5
#: Seconds between two looks at the deadline of a statement.
LOOK_S = 0.25

#: The open connections of this process, whose sockets a fork must not keep open.
_open: weakref.WeakSet[_Connection] = weakref.WeakSet()


class _Connection(psycopg.Connection[Any]):
    """A connection whose statements have a deadline."""

    timeout_s: float = COMMAND_TIMEOUT_S

    def wait(self, gen: Generator[Any, Any, Any], *_: Any, **__: Any) -> Any:
        """Carry out a part of the protocol.

        Raises:
            psycopg.OperationalError: At the deadline.
        """
        deadline = time.monotonic() + self.timeout_s
        return super().wait(_limit(gen, deadline, self.timeout_s), interval=LOOK_S)


def _limit(
    gen: Generator[Any, Any, T], deadline: float, timeout_s: float
) -> Generator[Any, Any, T]:
    """Do as a generator of the client library does, until the deadline."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise psycopg.OperationalError(f"no answer within {timeout_s:g} seconds")
            wanted = gen.send(ready)
    except StopIteration as stop:
        result: T = stop.value
        return result


def open_connection(
    conninfo: str, options: Mapping[str, Any], *, prepares: bool, where: str
) -> psycopg.Connection[Any]:
    """Open a connection in autocommit mode.

    Args:
        conninfo: The URL.
        options: Parameters beside it.
        prepares: Whether statements that come often are prepared.
        where: The server, for errors.

    Raises:
        ConnectionFailed: If that is not possible; the text says why.
    """
    try:
        connection = _Connection.connect(
            conninfo, autocommit=True, prepare_threshold=5 if prepares else None, **options
        )
    except (psycopg.Error, OSError, UnicodeError) as error:
        raise explain_opening(error, where) from error
    _open.add(connection)
    return connection


class Link:
    """One connection. Belongs to one thread at a time; made anew after a fork.

    Args:
        connect: Opens a connection.
        where: The server, for errors.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], where: str) -> None:
        self._connect = connect
        self._where = where
        self._connection: psycopg.Connection[Any] | None = None
        self._pid = os.getpid()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self._connection is not None

    def open(self) -> psycopg.Connection[Any]:
        """Return the connection; open it if there is none, or if it has died since.

        Raises:
            ConnectionFailed: If that is not possible.
        """
        connection = self._connection
        if self._pid != os.getpid():
            # That one is the parent's; see `_drop_after_fork`.
            connection, self._pid = None, os.getpid()
        if connection is not None and _is_stale(connection):
            self.close()
            connection = None
        if connection is None:
            connection = self._connection = self._connect()
        return connection

    def run(
        self,
        operation: Callable[[psycopg.Cursor[Any]], T],
        *,
        in_transaction: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> T:
        """Carry out an operation, and return its result once it is committed.

        Args:
            operation: Gets a cursor. It must not commit.
            in_transaction: Whether it is to be one transaction; else each statement is one.
            timeout_s: Seconds for each statement.

        Raises:
            BrokerConnectionError: If it could not be carried out. Only if the connection was lost
                while it was committed, it may have been.
            PostgresError: If the server refuses what is in it.
        """
        connection: Any = self.open()
        connection.timeout_s = timeout_s
        try:
            with connection.cursor(binary=True) as cursor:
                if not in_transaction:
                    return operation(cursor)
                hit("postgres.before_begin")
                with connection.transaction():
                    result = operation(cursor)
                    hit("postgres.before_commit")
            hit("postgres.after_commit")
        except (psycopg.Error, OSError) as error:
            self.close()
            raise explain(error, self._where) from error
        except BaseException:
            # Whatever it was, an exception thrown into the thread perhaps: how far the protocol
            # has come is not known unless the transaction has ended.
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self.close()
            raise
        return result

    def close(self) -> None:
        """Close the connection; a next use opens another. Harmless when called twice."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            with suppress(psycopg.Error, OSError):
                connection.close()


def _is_stale(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether an idle connection has died: a server says nothing unasked, but farewell."""
    if connection.closed:
        return True
    poll = select.poll()  # not select(): descriptors may be numbered high
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _drop_after_fork() -> None:
    """Take the parent's sockets away from a child.

    Otherwise the server would believe a dead parent alive for as long as its child lives, and keep
    the lock by which others tell. The client library leaves them open in a child.
    """
    inherited = list(_open)
    _open.clear()
    for connection in inherited:
        with suppress(psycopg.Error, OSError):
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, connection.fileno(), inheritable=False)
            os.close(nothing)
            # Its farewell goes nowhere.
            connection.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_after_fork)
