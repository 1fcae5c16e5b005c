"""The embedded broker: a table as a queue, in one file that several processes share."""

from __future__ import annotations

import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from ...common import current_millis, q_name
from ...errors import BrokerConnectionError
from ...failpoints import hit
from ...flight_recorder import FlightRecorder
from ...sqlite import DEFAULT_PATH, open_database, path_of_url
from .._leasing import LeasingBroker
from .._store import MAX_CRASHES, decode, poison_reason
from .caretaker import Caretaker, News
from .consumer import SQLiteConsumer
from .membership import Membership
from .statements import insert, load, schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ...delivery import Envelope
    from ...history.stores.sqlite import SQLiteStore
    from ...inspection import Inspection
    from ...workflows.store import WorkflowStore

__all__ = ["SQLiteBroker"]

#: Milliseconds dead letters are kept: seven days.
DEFAULT_DEAD_MESSAGE_TTL = 86_400_000 * 7
#: Milliseconds it is remembered that a message was finished under a lost lease: one hour.
DONE_TTL = 3_600_000
#: Messages that are stored together from which on it is worth to see if they fit on the disk.
MANY = 100
#: Most dead letters dropped by one transaction.
BATCH = 1000
#: Bytes a message takes beside its payload, indexes included.
ROW_BYTES = 200


class SQLiteBroker(LeasingBroker):
    """Keeps messages in an SQLite file on this machine; nothing to install or to start.

    Any number of processes may share the file. A message whose `enqueue` returned survives the
    end of any process and, unless ``synchronous`` says otherwise, the loss of power. Workers that
    die are noticed within a second and what they held runs elsewhere.

    Args:
        path: The file; created if missing, ``dramatiq.db`` in the current folder by default.
        url: The same as ``sqlite:///relative/path`` or ``sqlite:////absolute/path``.
        middleware: See `Broker`.
        synchronous: ``"FULL"``, or ``"NORMAL"`` to be faster and lose the last messages if the
            machine loses power (a crash of processes loses nothing either way).
        busy_timeout: Milliseconds to wait for another process that is writing.
        dead_message_ttl: Milliseconds dead letters are kept.

    Raises:
        ValueError: If both ``path`` and ``url`` are given, or one of the options is not valid.
        ConnectionFailed: If the file is on a network file system.
    """

    join_interval = 20

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        middleware: Iterable[Any] | None = None,
        synchronous: str = "FULL",
        busy_timeout: int = 10_000,
        dead_message_ttl: int = DEFAULT_DEAD_MESSAGE_TTL,
    ) -> None:
        super().__init__(middleware=middleware)
        if path is not None and url is not None:
            raise ValueError("Give SQLiteBroker either a path or a url, not both.")
        if synchronous not in {"FULL", "NORMAL"}:
            raise ValueError(f"synchronous must be 'FULL' or 'NORMAL', not {synchronous!r}.")
        if url is not None:
            path = path_of_url(url)
        self.database = open_database(DEFAULT_PATH if path is None else path)
        self.database.synchronous = synchronous
        self.database.busy_timeout_ms = busy_timeout
        self.database.ensure_schema("messages-1", schema("schema"))
        self.database.ensure_schema("paused-1", schema("schema_paused"))
        self.database.ensure_schema("worker-recorders-1", schema("recorders"))
        self.dead_message_ttl = dead_message_ttl
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._membership: Membership | None = None
        self._caretaker: Caretaker | None = None
        self.news = News()
        #: The consumers that hold messages under this process's registration.
        self.consumers: weakref.WeakSet[SQLiteConsumer] = weakref.WeakSet()

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return str(self.database.path)

    @property
    def display_url(self) -> str:
        """The broker's URL for people to read."""
        return f"sqlite:///{self.path}"

    # -- sending

    def _store(self, envelopes: Sequence[Envelope]) -> None:
        self._refuse_when_full(envelopes)
        self.database.write(partial(_insert, envelopes=envelopes))

    async def _store_async(self, envelopes: Sequence[Envelope]) -> None:
        self._refuse_when_full(envelopes)
        await self.database.write_async(partial(_insert, envelopes=envelopes))

    def _refuse_when_full(self, envelopes: Sequence[Envelope]) -> None:
        is_much = len(envelopes) >= MANY
        self.database.refuse_when_full(
            sum(len(envelope.payload) + ROW_BYTES for envelope in envelopes) if is_much else 0
        )

    # -- receiving

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> SQLiteConsumer:
        """Return a consumer; see `Broker.consume`.

        Raises:
            BrokerConnectionError: If the file cannot be used; the text says why.
        """
        self._start_caretaker()
        return SQLiteConsumer(self, queue_name, prefetch, timeout)

    @property
    def membership(self) -> Membership:
        """This process's registration as an owner of leases."""
        with self._lock_of_this_process():
            if self._membership is None:
                self._membership = Membership(self.database)
                self._membership.on_poison = self._tell_of_poison
            return self._membership

    def make_flight_recorder(self, slots: int) -> FlightRecorder:
        """Return where a worker is to write down what it runs; see `Broker`."""
        recorder = FlightRecorder(slots)
        try:
            self.membership.add_recorder(recorder.name)
        except BrokerConnectionError as error:
            self.logger.warning(
                "A second worker of this process goes on without flight recorder: %s", error
            )
        return recorder

    def _lock_of_this_process(self) -> threading.Lock:
        # After a fork everything here, the lock included, is the parent's.
        if self._pid != os.getpid():
            self._reset()
        return self._lock

    def _start_caretaker(self) -> None:
        membership = self.membership
        with self._lock_of_this_process():
            if self._caretaker is None:
                self.database.on_commit(self.news.tell)
                self._caretaker = Caretaker(
                    self.database, self.news, partial(self._sweep, membership), self._maintain
                )
                self._caretaker.start()

    def _tell_of_poison(self, numbers: Sequence[int]) -> None:
        statement = load("read_dead_payload")

        def read(connection: sqlite3.Connection) -> list[Any]:
            found = [connection.execute(statement, {"seq": seq}).fetchone() for seq in numbers]
            return [row[0] for row in found if row is not None]

        messages = [decode(payload) for payload in self.database.read(read)]
        self.tell_workflows_of_dead(messages, poison_reason(MAX_CRASHES))

    def _sweep(self, membership: Membership) -> None:
        membership.sweep()
        self.database.find_space()

    def _maintain(self) -> None:
        """Drop what has expired, and take back what is leased to nobody."""
        now = current_millis()
        for queue_name in list(self.queues):
            before = now - self.dead_message_ttl
            arguments = {"queue": queue_name, "before": before, "count": BATCH}
            while self._execute("purge_dead", arguments) > 0:
                continue
        self._execute("purge_done", {"before": now - DONE_TTL})
        self._execute("forget_recorders", {})
        if self._execute("reclaim_orphans", {}):
            self.logger.warning("Messages leased to unknown workers went back to their queues.")

    def _execute(self, name: str, arguments: dict[str, Any]) -> int:
        return self.database.write(
            lambda connection: connection.execute(load(name), arguments).rowcount,
            frees_space=True,
        )

    # -- caring

    def make_history_store(self) -> SQLiteStore:
        """Return a store in the file of this broker; see `Broker`."""
        from ...history.stores.sqlite import SQLiteStore  # few applications need it

        return SQLiteStore(broker=self)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where workflows are kept: in the file, in one step with their messages."""
        from ...workflows.stores.sqlite import SQLiteStore  # few applications have workflows

        return SQLiteStore(self.database, insert)

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import SQLiteInspection  # few processes of an application need it

        return SQLiteInspection(self)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue but those that are being run, dead letters included."""
        self._execute("flush", {"queue": q_name(queue_name)})

    def _is_busy(self, queue_name: str) -> bool:
        arguments = {"queue": queue_name}
        return self.database.read(
            lambda connection: bool(connection.execute(load("is_busy"), arguments).fetchone()[0])
        )

    def close(self) -> None:
        """Give back what is held, stop the threads and close the file; a next use opens it."""
        with self._lock_of_this_process():
            caretaker, self._caretaker = self._caretaker, None
            membership, self._membership = self._membership, None
        if caretaker is not None:
            caretaker.stop()
        try:
            if membership is not None:
                membership.leave()
        except BrokerConnectionError as error:
            # The lock of this process is gone all the same, so others take it for dead.
            self.logger.warning("Cannot sign off; others take over what is left: %s", error)
        finally:
            self.database.close()


def _insert(connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> None:
    insert(connection, envelopes)
    hit("sqlite.enqueue.before_commit")
