"""The one writer of a process: a thread that commits what arrives together in one transaction.

Any thread hands over operations with `submit`; the thread alone touches the connection. It never
waits to fill a transaction: while one is committed, the next operations gather.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BrokerConnectionError
from ..failpoints import hit
from ..logging import get_logger
from .failures import explain, is_about_the_file, is_disk_full, is_passing
from .space import Space

if TYPE_CHECKING:
    from .ballast import Ballast

__all__ = ["Operation", "Pending", "Writer"]

#: Most operations in one transaction: bounds how long the first of them waits.
MAX_OPERATIONS = 256

#: Writes through the connection and returns a result. It may be run more than once, each time in
#: a fresh transaction; only the last counts.
Operation: TypeAlias = Callable[[sqlite3.Connection], Any]


class Pending:
    """An operation on its way, and its result when it is committed."""

    __slots__ = ("_done", "error", "frees_space", "is_done", "on_done", "operation", "result")

    def __init__(self, operation: Operation, *, frees_space: bool) -> None:
        self.operation = operation
        #: Whether it may use the space that the ballast keeps free.
        self.frees_space = frees_space
        self.result: Any = None
        self.error: Exception | None = None
        #: Called in the writer's thread when it is done.
        self.on_done: Callable[[Pending], None] | None = None
        self.is_done = False
        # A bare lock is the cheapest thing a thread can wait for.
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self, result: Any, error: Exception | None) -> None:
        """Tell whoever waits; only the first time counts."""
        if self.is_done:
            return
        self.is_done = True
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
        self._space = Space(path, ballast)
        self._on_commit = on_commit
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None
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
            try:
                self._run_batch(batch)
            except Exception as error:
                self.logger.exception("Unexpected failure in the writer of %s.", self._path)
                for each in batch:
                    each.finish(None, error)
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
        self._space.after_commit(connection)

    def _give_up(self, batch: list[Pending], error: Exception, *, has_made_room: bool) -> None:
        """Fail a batch; but what frees space has the space of the ballast first."""
        if is_disk_full(error) and not has_made_room:
            freeing = [pending for pending in batch if pending.frees_space]
            if freeing and self._space.make_room(self._connection):
                self._run_batch(freeing, has_made_room=True)
                self._space.close_gap(self._connection)
                batch = [pending for pending in batch if not pending.frees_space]
            elif self._space.shrink(self._connection):
                self._run_batch(batch, has_made_room=True)
                return
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

    def _disconnect(self) -> None:
        """Start over with a fresh connection, in case this one is what is broken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                self.logger.debug("Closing a broken connection failed.", exc_info=True)
