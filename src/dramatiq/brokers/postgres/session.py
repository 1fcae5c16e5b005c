"""The connection by which a process lives: it holds the lock, beats, and hears what there is.

Behind a pooler that gives each transaction another session it can neither hold nor hear anything;
then it only beats.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from ...errors import ConnectionClosed
from ...postgres.failures import explain
from .statements import channel_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...postgres import Database, Statements

__all__ = ["Session"]


class Session:
    """Belongs to one thread, but for `interrupt`.

    Args:
        database: The database.
        sql: The broker's statements.
        tell: Called with the name of a queue in which there may be something to take.
    """

    def __init__(self, database: Database, sql: Statements, tell: Callable[[str], None]) -> None:
        self._database = database
        self._sql = sql
        self._tell = tell
        self._link = database.link()
        self._connection: psycopg.Connection[Any] | None = None
        #: The owner whose lock we hold.
        self._locked: int | None = None
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    @property
    def is_listening(self) -> bool:
        """Whether we are told of what comes."""
        return self._connection is not None and not self._database.is_pooled

    def beat(self, owner: int) -> bool:
        """Tell that an owner is alive; False if it has been struck off.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        try:
            connection = self._open()
            if self._locked != owner and not self._database.is_pooled:
                self._lock(connection, owner)
            found = connection.execute(self._sql["beat"], {"owner": owner}).fetchone()
        except (psycopg.Error, OSError) as error:
            self.close_connection()
            raise explain(error, self._database.where) from error
        return found is not None

    def _open(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._link.open()
            self._locked = None
            if not self._database.is_pooled:
                connection.add_notify_handler(lambda notify: self._tell(notify.payload))
                channel = psycopg.sql.Identifier(channel_of(self._database.schema))
                connection.execute(psycopg.sql.SQL("LISTEN {}").format(channel))
            self._connection = connection
        return connection

    def _lock(self, connection: psycopg.Connection[Any], owner: int) -> None:
        """Take the lock. Whoever holds it is about to strike us off, or our last session."""
        if self._locked is not None:
            connection.execute("SELECT pg_advisory_unlock_all()")
            self._locked = None
        if connection.execute(self._sql["lock"], {"owner": owner}).fetchone() == (True,):
            self._locked = owner
            connection.execute(self._sql["has_lock"], {"owner": owner})

    def listen(self, timeout_s: float) -> None:
        """Wait for news, or `interrupt`, for so many seconds at most.

        Raises:
            ConnectionClosed: If the connection is lost.
        """
        connection = self._connection
        poll = select.poll()  # not select(): descriptors may be numbered high
        poll.register(self._reader, select.POLLIN)
        if connection is not None:
            poll.register(connection.fileno(), select.POLLIN)
        for descriptor, _ in poll.poll(timeout_s * 1000):
            if descriptor == self._reader:
                with suppress(BlockingIOError):
                    os.read(self._reader, 4096)
            elif connection is not None:
                self._hear(connection)

    def _hear(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.pgconn.consume_input()
            while (notify := connection.pgconn.notifies()) is not None:
                self._tell(notify.extra.decode("utf-8", "replace"))
        except psycopg.Error as error:
            self.close_connection()
            raise explain(error, self._database.where) from error
        # Something that is readable and says nothing is the end.
        if connection.pgconn.status != psycopg.pq.ConnStatus.OK:
            self.close_connection()
            raise ConnectionClosed(
                f"PostgreSQL at {self._database.where} has closed the connection"
            )

    def interrupt(self) -> None:
        """Make `listen` return. Any thread."""
        # A pipe that is full has been heard.
        with suppress(BlockingIOError, OSError):
            os.write(self._writer, b"x")

    def close_connection(self) -> None:
        """Close the connection; a next beat opens another."""
        self._connection = None
        self._locked = None
        self._link.close()

    def close(self) -> None:
        """Close everything."""
        self.close_connection()
        os.close(self._reader)
        os.close(self._writer)
