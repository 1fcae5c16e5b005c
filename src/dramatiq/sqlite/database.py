"""The database of one process for one file: connections, schema, fork safety.

Every method may be called from any thread. ``_lock`` guards opening and closing; reads share one
connection under ``_read_lock``, which is taken first.

Before a fork everything is closed, to be opened again at the next use. Connections must not be
carried across a fork, and to leave them unused in the child is not enough: SQLite remembers per
process which locks it holds on which file, so the child would count on locks that it does not
have. It would find the file locked for ever, or write to a log that its parent deletes
(https://www.sqlite.org/howtocorrupt.html, section 2.6).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConnectionClosed, ConnectionFailed
from .ballast import Ballast
from .failures import explain
from .place import refuse_network_file_system
from .schema import create_schema, has_schema
from .writer import Pending, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["DEFAULT_PATH", "Database", "open_database"]

T = TypeVar("T")

#: The file of everything embedded, unless told otherwise.
DEFAULT_PATH = "dramatiq.db"
#: Milliseconds to wait for another process's write lock before giving up with an error.
BUSY_TIMEOUT_MS = 10_000
#: Pages (4 KiB) of the log at which SQLite copies it into the database file: about 16 MB, so
#: that a burst is not slowed by copying the same pages over and over.
CHECKPOINT_PAGES = 4_000
#: Seconds a fork waits for writes that are on their way.
FORK_PATIENCE_S = 5.0
#: Oldest SQLite with everything used here (RETURNING).
MIN_SQLITE_VERSION = (3, 35, 0)

#: One per file in this process; weak, so that a database that nobody uses goes.
_databases: weakref.WeakValueDictionary[Path, Database] = weakref.WeakValueDictionary()
_databases_lock = threading.Lock()


def open_database(path: str | os.PathLike[str] = DEFAULT_PATH) -> Database:
    """Return this process's database for ``path``; the file is opened at the first use.

    Raises:
        ConnectionFailed: If it is on a network file system.
    """
    real_path = Path(path).expanduser().resolve()
    with _databases_lock:
        database = _databases.get(real_path)
        if database is None:
            database = _databases[real_path] = Database(real_path)
        return database


class Database:
    """One SQLite file. Use `open_database`, so that a process has one of each.

    Args:
        path: Absolute path of the file.
    """

    def __init__(self, path: Path) -> None:
        if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
            raise RuntimeError(
                f"This Python comes with SQLite {sqlite3.sqlite_version}; 3.35 or newer is needed."
            )
        refuse_network_file_system(path)
        self.path = path
        #: ``FULL`` survives power loss; ``NORMAL`` may then undo the last commits.
        self.synchronous = "FULL"
        self.busy_timeout_ms = BUSY_TIMEOUT_MS
        self.ballast = Ballast(path)
        #: Replaced, never changed, so that it can be read without a lock.
        self._schemas: dict[str, Sequence[str]] = {}
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._writer: Writer | None = None
        self._reader: sqlite3.Connection | None = None
        self._readers_opened = 0
        #: While forking.
        self._locks_held: list[threading.Lock] = []
        self._unclosed: list[Writer] = []
        self._is_usable = True

    # -- opening

    def ensure_schema(self, name: str, statements: Sequence[str]) -> None:
        """Have ``statements`` run once per file, as the schema called ``name``.

        They run when the file is first opened, or with the next write.
        """
        with self._lock:
            if name in self._schemas:
                return
            self._schemas = {**self._schemas, name: statements}
            is_open = self._writer is not None
        if is_open:
            self.write(lambda connection: create_schema(connection, name, statements))

    def _connect(self) -> sqlite3.Connection:
        if not self._is_usable:
            raise ConnectionFailed(
                f"SQLite database {self.path} was in use for more than {FORK_PATIENCE_S:.0f} "
                "seconds while this process was forked, and cannot be used here any more. Start "
                "processes before there is work, or with the start method 'spawn'."
            )
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=self.busy_timeout_ms / 1000,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise explain(error, str(self.path)) from error
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self.busy_timeout_ms / 1000
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                # Two processes that create the file at once: SQLite does not wait here.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise sqlite3.OperationalError(f"unable to open in WAL mode, only in mode {mode}")
        connection.execute(f"PRAGMA synchronous={self.synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            for name, statements in self._schemas.items():
                # Looking needs no lock, so that opening a file waits for nobody.
                if not has_schema(connection, name):
                    connection.execute("BEGIN IMMEDIATE")
                    create_schema(connection, name, statements)
                    connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    # -- writing

    def submit(self, pending: Pending) -> Pending:
        """Hand over a write and return without waiting for it."""
        with self._lock:
            if self._writer is None:
                self._writer = Writer(
                    self._connect_writer, str(self.path), self.ballast, self._notify
                )
                self._writer.start()
            self._writer.submit(pending)
        return pending

    def write(
        self, operation: Callable[[sqlite3.Connection], T], *, frees_space: bool = False
    ) -> T:
        """Run ``operation`` in a write transaction; return its result once that is committed.

        Args:
            operation: Gets the writer's connection. It may be run more than once, each time in a
                fresh transaction, and must not commit.
            frees_space: Whether it may use the last space of a full disk.

        Raises:
            BrokerConnectionError: If the file cannot be written; nothing has changed then.
        """
        result: T = self.submit(Pending(operation, frees_space=frees_space)).wait()
        return result

    async def write_async(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Do as `write` does, without blocking the running event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        def tell_loop(_: Pending) -> None:
            # The loop may have been closed meanwhile; then nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(wake)

        pending = Pending(operation, frees_space=False)
        pending.on_done = tell_loop
        self.submit(pending)
        await done
        result: T = pending.outcome()
        return result

    # -- reading

    def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``operation``, which only reads, and return its result.

        Raises:
            BrokerConnectionError: If the file cannot be read.
        """
        with self._read_lock:
            if self._reader is None:
                self._reader = self._connect_reader()
                self._readers_opened += 1
            try:
                return operation(self._reader)
            except sqlite3.Error as error:
                self._reader.close()
                self._reader = None
                raise explain(error, str(self.path)) from error

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            if not all(has_schema(connection, name) for name in self._schemas):
                # The writer creates them as it opens the file.
                self.write(lambda _: None, frees_space=True)
        except sqlite3.Error as error:
            connection.close()
            raise explain(error, str(self.path)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def version(self) -> tuple[int, int]:
        """Return something that changes when anybody has committed.

        Raises:
            BrokerConnectionError: If the file cannot be read.
        """
        data_version = self.read(
            lambda connection: connection.execute("PRAGMA data_version").fetchone()[0]
        )
        return self._readers_opened, data_version

    def refuse_when_full(self, added_bytes: int = 0) -> None:
        """Refuse to add anything while the space for settling is in use.

        Args:
            added_bytes: How much is to be added, where that is much.

        Raises:
            ConnectionClosed: If the disk is full.
        """
        # What is added is written twice: to the log, then to the database.
        is_too_much = added_bytes and 3 * added_bytes > self.ballast.free_bytes()
        if is_too_much or not self.find_space():
            raise ConnectionClosed(
                f"SQLite database {self.path}: the disk is full; what is left is kept for settling "
                "messages. Free some space and send the message again."
            )

    def find_space(self) -> bool:
        """If the ballast is gone, look whether there is space for it again; tell if it is there.

        Raises:
            BrokerConnectionError: If the file cannot be written.
        """
        if self.ballast.is_there():
            return True
        # The writer looks for space after a commit.
        self.write(lambda _: None, frees_space=True)
        return self.ballast.is_there()

    # -- news

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call a bound method after each commit of this process, in the writer's thread."""
        self._listeners.append(weakref.WeakMethod(listener))

    def _notify(self) -> None:
        for reference in list(self._listeners):
            listener = reference()
            if listener is None:
                self._listeners.remove(reference)
            else:
                listener()

    # -- closing

    def close(self) -> None:
        """Finish what was handed over and close the file; the next use opens it again."""
        with self._lock:
            writer, self._writer = self._writer, None
            # Under the lock, so that a fork waits for it. The writer never takes it.
            if writer is not None:
                writer.stop()
        with self._read_lock:
            self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # -- forking

    def before_fork(self) -> None:
        """Finish what was handed over, close the file, and keep others from opening it."""
        for lock in (self._read_lock, self._lock):
            if lock.acquire(timeout=FORK_PATIENCE_S):
                self._locks_held.append(lock)
        if len(self._locks_held) == 2 and self._stop_writer():
            self._close_reader()

    def _stop_writer(self) -> bool:
        writer, self._writer = self._writer, None
        if writer is None or writer.stop(FORK_PATIENCE_S):
            return True
        self._unclosed.append(writer)
        return False

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._unclosed.clear()
        while self._locks_held:
            self._locks_held.pop().release()

    def after_fork_in_child(self) -> None:
        """Start anew. What could not be closed before the fork must not be closed after it."""
        inherited = [*self._unclosed, self._writer, self._reader]
        if any(inherited):
            import ctypes

            # One reference too many for ever: not even the end of the interpreter closes them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        self._reset()
        self._is_usable = not any(inherited)


def _before_fork() -> None:
    for database in list(_databases.values()):
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in list(_databases.values()):
        database.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _databases_lock  # noqa: PLW0603 (the parent's may be locked for ever in the child)
    _databases_lock = threading.Lock()
    for database in list(_databases.values()):
        database.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
