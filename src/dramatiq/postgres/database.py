"""The database of one process for one server and schema: connections, schema, fork safety.

Every method may be called from any thread. A fixed number of connections is shared by whoever
sends, looks or acts; consumers and the caretaker have one each besides.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from ..errors import ConnectionFailed
from .failures import explain
from .link import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S, Link, open_connection
from .migrations import check, migrate, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DEFAULT_SCHEMA", "Database", "open_database"]

T = TypeVar("T")

#: Where the tables are, unless told otherwise.
DEFAULT_SCHEMA = "dramatiq"
#: Most connections that senders of one process share.
POOL_SIZE = 8
#: Seconds to wait for one of them.
POOL_TIMEOUT_S = 10.0
#: Most bytes of a schema's name: channel names are made of it, and PostgreSQL cuts names at 63.
LONGEST_SCHEMA = 40
#: Milliseconds after which the kernel gives a connection up whose data nobody acknowledges.
_USER_TIMEOUT_MS = 10_000
#: Settings of a session. Where the tables are small at the moment, the planner would read them
#: whole, and keep that plan when they are not small any more. A process that was stopped must not
#: hold its locks for long, and one whose machine is gone must lose them.
_SETTINGS = {
    "enable_seqscan": "off",
    "jit": "off",
    "idle_in_transaction_session_timeout": "15s",
    "statement_timeout": "120s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

#: One per server and schema in this process; weak, so that a database that nobody uses goes.
_databases: weakref.WeakValueDictionary[tuple[str, str], Database] = weakref.WeakValueDictionary()
_databases_lock = threading.Lock()


def open_database(url: str, schema: str = DEFAULT_SCHEMA) -> Database:
    """Return this process's database for a server and a schema; it connects when it is used.

    Args:
        url: ``postgresql://user:password@host:port/database``, or any other connection string of
            libpq. What is missing comes from libpq's environment variables.
        schema: The schema of the tables.

    Raises:
        ValueError: If one of them is not valid.
    """
    with _databases_lock:
        database = _databases.get((url, schema))
        if database is None:
            database = _databases[url, schema] = Database(url, schema)
        return database


class Database:
    """One schema of one server. Use `open_database`, so that a process has one of each.

    Args:
        url: See `open_database`.
        schema: See `open_database`.
    """

    def __init__(self, url: str, schema: str) -> None:
        if not re.fullmatch(r"\w+", schema) or len(schema.encode()) > LONGEST_SCHEMA:
            raise ValueError(
                f"A schema's name has letters, digits and underscores, 1 to {LONGEST_SCHEMA} bytes "
                f"in all; {schema!r} has not."
            )
        self.url = url
        self.schema = schema
        self._parameters = _parse(url)
        self.where = _place(self._parameters)
        #: Whether there is a pooler between us that gives each transaction another session; None
        #: until that is known.
        self.is_pooled: bool | None = None
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: list[Link] = []
        self._free = threading.BoundedSemaphore(POOL_SIZE)
        self._is_checked = False

    def _lock_of_this_process(self) -> threading.Lock:
        # After a fork everything here, the lock included, is the parent's.
        if self._pid != os.getpid():
            self._reset()
        return self._lock

    @property
    def display_url(self) -> str:
        """Where it is, for people to read and without the password."""
        return f"postgresql at {self.where}, schema {self.schema!r}"

    # -- connections

    def link(self) -> Link:
        """Return a connection of one's own, to be closed by whoever asked for it."""
        return Link(self._connect, self.where)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = self._connect_directly() if not self.is_pooled else self._connect_pooled()
        try:
            if self.is_pooled is None:
                found = connection.execute("SELECT pg_backend_pid()").fetchone()
                # A pooler makes numbers up.
                self.is_pooled = found is None or found[0] != connection.info.backend_pid
            if self.is_pooled:
                # It may have been opened before another thread found that out.
                connection.prepare_threshold = None
            self._check_schema(connection)
        except (psycopg.Error, OSError) as error:
            connection.close()
            raise explain(error, self.where) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_directly(self) -> psycopg.Connection[Any]:
        settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        options = f"{settings} {self._parameters.get('options') or ''}".strip()
        try:
            return self._open(options=options, prepares=True)
        except ConnectionFailed as error:
            if "startup parameter" not in str(error):
                raise
            # https://www.pgbouncer.org/config.html, ignore_startup_parameters
            self.is_pooled = True
            return self._connect_pooled()

    def _connect_pooled(self) -> psycopg.Connection[Any]:
        return self._open(options=self._parameters.get("options"), prepares=False)

    def _open(self, *, options: str | None, prepares: bool) -> psycopg.Connection[Any]:
        defaults: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": _USER_TIMEOUT_MS,
            "application_name": "dramatiq",
            "client_encoding": "UTF8",
        }
        parameters = {**defaults, **self._parameters}
        if options:
            parameters["options"] = options
        return open_connection("", parameters, prepares=prepares, where=self.where)

    # -- the schema

    def _check_schema(self, connection: psycopg.Connection[Any]) -> None:
        """Make the tables where there is nothing; refuse those of another version."""
        with self._lock_of_this_process():
            if self._is_checked:
                return
            with connection.cursor() as cursor:
                version, compatible_from = version_of(cursor, self.schema)
                if version:
                    check(version, compatible_from, self.schema, self.where)
                else:
                    with connection.transaction():
                        migrate(cursor, self.schema)
            self._is_checked = True

    def ensure_schema(self) -> None:
        """Make sure that the tables are there; asks the server once.

        Raises:
            BrokerConnectionError: If they are not, and cannot be made.
        """
        with self._lock_of_this_process():
            is_checked = self._is_checked
        if not is_checked:
            self.run(lambda _: None, in_transaction=False)

    def migrate(self) -> tuple[int, int]:
        """Bring the tables to the newest version; return the versions before and after.

        Raises:
            BrokerConnectionError: If that is not possible.
        """
        with self._lock_of_this_process():
            was_checked, self._is_checked = self._is_checked, True
        link = self.link()
        try:
            return link.run(lambda cursor: migrate(cursor, self.schema), timeout_s=3600)
        finally:
            link.close()
            with self._lock_of_this_process():
                self._is_checked = was_checked

    # -- carrying out

    def run(
        self,
        operation: Callable[[psycopg.Cursor[Any]], T],
        *,
        in_transaction: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> T:
        """Carry out an operation on a shared connection; see `Link.run`.

        Raises:
            BrokerConnectionError: If it could not be carried out.
        """
        with self._borrow() as link:
            return link.run(operation, in_transaction=in_transaction, timeout_s=timeout_s)

    def write(self, operation: Callable[[psycopg.Cursor[Any]], T]) -> T:
        """Carry out, in a transaction of its own, what could have joined a settlement.

        Raises:
            BrokerConnectionError: If it could not be carried out.
        """
        return self.run(operation)

    @contextmanager
    def _borrow(self) -> Iterator[Link]:
        with self._lock_of_this_process():
            free = self._free
        if not free.acquire(timeout=POOL_TIMEOUT_S):
            raise ConnectionFailed(
                f"PostgreSQL at {self.where}: all {POOL_SIZE} connections of this process have "
                f"been busy for {POOL_TIMEOUT_S:g} seconds."
            )
        try:
            with self._lock_of_this_process():
                link = self._idle.pop() if self._idle else self.link()
            yield link
            with self._lock_of_this_process():
                if link.is_open:
                    self._idle.append(link)
        finally:
            free.release()

    def close(self) -> None:
        """Close the shared connections; a next use opens others. Harmless when called twice."""
        with self._lock_of_this_process():
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()


def _parse(url: str) -> dict[str, Any]:
    try:
        return psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Its text may repeat the password.
        raise ValueError(
            "This is no connection string of PostgreSQL: write "
            "postgresql://user:password@host:5432/database, with special characters in the "
            "password as %XX."
        ) from None


def _place(parameters: dict[str, Any]) -> str:
    """Return host, port and database for people to read."""
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST")
    port = parameters.get("port") or os.environ.get("PGPORT") or 5432
    name = parameters.get("dbname") or os.environ.get("PGDATABASE") or ""
    return f"{host or 'localhost'}:{port}/{name}"
