"""The one writer of a process: a thread that commits what arrives together in one transaction.

Any thread hands over operations with `submit`; the thread alone touches the connection. It never
waits to fill a transaction: while one is committed, the next operations gather.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BrokerConnectionError
from ..failpoints import hit
from ..logging import get_logger
from .failures import explain, is_about_the_file, is_disk_full, is_passing

if TYPE_CHECKING:
    from .ballast import Ballast

__all__ = ["Operation", "Pending", "Writer"]

#: Most operations in one transaction: bounds how long the first of them waits.
MAX_OPERATIONS = 256
#: Seconds between two attempts to get back the space of a full disk.
TIDY_INTERVAL_S = 1.0
#: Most bytes of content and log that are rewritten to make a nearly empty database small.
MAX_VACUUM_BYTES = 64 * 1024 * 1024

#: Writes through the connection and returns a result. It may be run more than once, each time in
#: a fresh transaction; only the last counts.
Operation: TypeAlias = Callable[[sqlite3.Connection], Any]


class Pending:
    """An operation on its way, and its result when it is committed."""

    __slots__ = ("_done", "error", "frees_space", "on_done", "operation", "result")

    def __init__(self, operation: Operation, *, frees_space: bool) -> None:
        self.operation = operation
        #: Whether it may use the space that the ballast keeps free.
        self.frees_space = frees_space
        self.result: Any = None
        self.error: Exception | None = None
        #: Called in the writer's thread when it is done.
        self.on_done: Callable[[Pending], None] | None = None
        # A bare lock is the cheapest thing a thread can wait for.
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self, result: Any, error: Exception | None) -> None:
        """Tell whoever waits."""
        self.result = result
        self.error = error
        self._done.release()
        if self.on_done is not None:
            self.on_done(self)

    def wait(self) -> Any:
        """Wait until it is committed and return its result, or raise its error."""
        with self._done:
            pass
        return self.outcome()

    def outcome(self) -> Any:
        """Return the result or raise the error of an operation that is done."""
        if self.error is None:
            return self.result
        try:
            raise self.error
        finally:
            # Its traceback holds this frame; the frame must not hold it.
            self.error = None


class Writer:
    """Runs operations one after the other, in as few transactions as their arrival allows.

    Args:
        connect: Opens the connection; called in the thread at the first operation, and again
            after an error that may have broken it.
        path: Named in errors.
        ballast: What is given up when the disk is full.
        on_commit: Called after each transaction, in the thread.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        path: str,
        ballast: Ballast,
        on_commit: Callable[[], None],
    ) -> None:
        self.logger = get_logger("dramatiq.sqlite", type(self))
        self._connect = connect
        self._path = path
        self._ballast = ballast
        self._on_commit = on_commit
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._tidy_at = 0.0
        self._thread = threading.Thread(
            target=self._run, name="dramatiq-sqlite-writer", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, pending: Pending) -> None:
        """Hand over an operation. Any thread."""
        self._queue.put(pending)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Run what was handed over, close the connection, end; False if not in time."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch = []
            pending = self._queue.get()
            try:
                while pending is not None:
                    batch.append(pending)
                    if len(batch) == MAX_OPERATIONS:
                        break
                    pending = self._queue.get_nowait()
                else:
                    stopping = True
            except Empty:
                pass
            self._run_batch(batch)
            # While this thread waits, it must not keep alive what it wrote last.
            pending = None
        self._disconnect()

    def _run_batch(self, batch: list[Pending], *, has_made_room: bool = False) -> None:
        if not batch:
            return
        try:
            connection = self._begin()
        except Exception as error:
            # It is the same for all of them: each waiting for itself would take that much longer.
            self._give_up(batch, error, has_made_room=has_made_room)
            return
        try:
            results = self._commit(connection, [pending.operation for pending in batch])
        except Exception as error:
            if len(batch) == 1:
                self._give_up(batch, error, has_made_room=has_made_room)
                return
            # One of them, or all of them: each in a transaction of its own will tell.
            for pending in batch:
                self._run_batch([pending])
            return
        for pending, result in zip(batch, results, strict=True):
            pending.finish(result, None)
        self._on_commit()
        if self._ballast.is_low():
            self._save_space(connection)

    def _give_up(self, batch: list[Pending], error: Exception, *, has_made_room: bool) -> None:
        """Fail a batch; but what frees space has the space of the ballast first."""
        if is_disk_full(error) and not has_made_room:
            freeing = [pending for pending in batch if pending.frees_space]
            if freeing and self._make_room():
                self._run_batch(freeing, has_made_room=True)
                batch = [pending for pending in batch if not pending.frees_space]
        for pending in batch:
            pending.finish(None, self._explain(error))
        if is_about_the_file(error) and not is_passing(error):
            self._disconnect()

    def _explain(self, error: Exception) -> Exception:
        """Return an error for one caller; several threads must not raise the same object."""
        if isinstance(error, BrokerConnectionError):
            explained: Exception = type(error)(*error.args)
        elif is_about_the_file(error):
            explained = explain(error, self._path)
        else:
            return error
        explained.__cause__ = error
        return explained

    def _begin(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        hit("sqlite.before_begin")
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def _commit(self, connection: sqlite3.Connection, operations: list[Operation]) -> list[Any]:
        try:
            results = [operation(connection) for operation in operations]
            hit("sqlite.before_commit")
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some errors.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        hit("sqlite.after_commit")
        return results

    # -- a full disk

    def _make_room(self) -> bool:
        """Find space for what frees space; False if there is none."""
        released = self._ballast.release()
        if released:
            self.logger.warning(
                "The disk of %s is full. Settling goes on with the space kept for it; new "
                "messages are refused until there is space again.",
                self._path,
            )
        return self._copy_log("PASSIVE") or released

    def _save_space(self, connection: sqlite3.Connection) -> None:
        """Keep the log short; at times, try to make the files small enough for a new ballast."""
        self._copy_log("PASSIVE")
        now = time.monotonic()
        if now < self._tidy_at or self._ballast.is_there():
            return
        self._tidy_at = now + TIDY_INTERVAL_S
        self._copy_log("TRUNCATE")
        if self._is_mostly_empty(connection):
            try:
                connection.execute("PRAGMA temp_store=MEMORY")
                connection.execute("VACUUM")
            except sqlite3.Error:
                self.logger.debug("The database could not be made smaller.", exc_info=True)
            self._copy_log("TRUNCATE")
        if self._ballast.is_there():
            self.logger.warning(
                "The disk of %s has space again: messages are accepted.", self._path
            )

    def _copy_log(self, mode: str) -> bool:
        """Copy the log into the database, so that it starts over; False if it does not."""
        connection = self._connection
        if connection is None:
            return False
        try:
            is_busy, pages, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error:
            return False
        return not is_busy and bool(pages == copied)

    def _is_mostly_empty(self, connection: sqlite3.Connection) -> bool:
        def number(name: str) -> int:
            value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
            return value

        pages, free = number("page_count"), number("freelist_count")
        content = (pages - free) * number("page_size")
        return free > pages // 2 and 2 * content < min(self._ballast.free_bytes(), MAX_VACUUM_BYTES)

    def _disconnect(self) -> None:
        """Start over with a fresh connection, in case this one is what is broken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                self.logger.debug("Closing a broken connection failed.", exc_info=True)
