"""The broker on PostgreSQL: a table as a queue, next to the application's own data."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from ...common import q_name
from ...errors import BrokerConnectionError
from ...failpoints import hit
from ...flight_recorder import FlightRecorder
from ...postgres import open_database
from .._leasing import LeasingBroker
from .._store import new_delivery_ids
from .caretaker import Caretaker
from .consumer import PostgresConsumer
from .joining import driver_connection, joined_connection, joining, store
from .membership import Membership
from .news import News
from .statements import ROWS_PER_INSERT, channel_of, insert, statements_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from ...delivery import Envelope
    from ...history.stores.postgres import PostgresStore
    from ...inspection import Inspection
    from ...message import Message
    from ...workflows.store import WorkflowStore

__all__ = ["PostgresBroker"]

#: Milliseconds dead letters are kept: seven days.
DEFAULT_DEAD_MESSAGE_TTL = 86_400_000 * 7
#: Milliseconds it is remembered that a message was finished under a lost lease: one hour.
DONE_TTL = 3_600_000
#: Most dead letters dropped by one transaction.
BATCH = 1000


class PostgresBroker(LeasingBroker):
    """Keeps messages in a schema of a PostgreSQL database.

    A message whose `enqueue` returned is as safe as the server's commits are. It is leased to one
    worker at a time, and removed in the transaction that stores what follows from it. Workers that
    die are noticed within two seconds by others on the same machine, within twelve by those on
    other machines, and what they held runs elsewhere.

    PostgreSQL 14 or newer. The tables are made when there are none; `dramatiq migrate-schema`
    brings those of an older version up to date.

    Args:
        url: ``postgresql://user:password@host:5432/database``, or any other connection string of
            libpq; what is missing comes from its environment variables, ``PGHOST`` for example.
        middleware: See `Broker`.
        schema: The schema of the tables.
        dead_message_ttl: Milliseconds dead letters are kept.

    Raises:
        ValueError: If ``url`` or ``schema`` is not valid.
    """

    def __init__(
        self,
        url: str = "",
        *,
        middleware: Iterable[Any] | None = None,
        schema: str = "dramatiq",
        dead_message_ttl: int = DEFAULT_DEAD_MESSAGE_TTL,
    ) -> None:
        super().__init__(middleware=middleware)
        self.database = open_database(url, schema)
        self.dead_message_ttl = dead_message_ttl
        self.sql = statements_of(schema)
        #: Under which name others are told of what there is.
        self.channel = channel_of(schema)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._membership: Membership | None = None
        self._caretaker: Caretaker | None = None
        self.news = News()
        #: The consumers that hold messages under this process's registration.
        self.consumers: weakref.WeakSet[PostgresConsumer] = weakref.WeakSet()

    @property
    def display_url(self) -> str:
        """Where the broker is, for people to read and without the password."""
        return self.database.display_url

    # -- sending

    def enqueue(
        self, message: Message[Any], *, delay: int | None = None, connection: Any = None
    ) -> Message[Any]:
        """Store ``message``; see `Broker.enqueue`.

        Args:
            message: The message.
            delay: Milliseconds before which it must not run.
            connection: A connection of the application to the same database, on which it is to be
                stored: the message is there if and only if its transaction commits. See
                `transaction`.
        """
        return self.enqueue_many([message], delay=delay, connection=connection)[0]

    def enqueue_many(
        self,
        messages: Iterable[Message[Any]],
        *,
        delay: int | None = None,
        connection: Any = None,
    ) -> list[Message[Any]]:
        """Store many messages in one step; all of them or, if it raises, none."""
        joined = joined_connection(self) if connection is None else driver_connection(connection)
        if joined is None:
            return super().enqueue_many(messages, delay=delay)
        ids = new_delivery_ids()
        envelopes = [self._prepare(message, delay, next(ids)) for message in messages]
        # So that there are tables.
        self.database.ensure_schema()
        store(self, joined, envelopes)
        self.announce_stored(envelopes)
        return [envelope.message for envelope in envelopes]

    def transaction(self, connection: Any) -> AbstractContextManager[None]:
        """Store what this thread or task sends inside on a connection of the application.

        With ``with broker.transaction(connection):`` a message is there if and only if the
        connection's transaction commits, with whatever else was written in it; workers see it from
        then on. Ending the transaction stays the application's part. ``after_enqueue`` runs before
        that.

        Args:
            connection: Of psycopg 3, or a ``Connection`` or ``Session`` of SQLAlchemy, or Django's
                ``connection``; to the same database. One without a transaction, in autocommit
                mode, commits each call at once.

        Raises:
            TypeError: If it is something else.
        """
        return joining(self, connection)

    def _store(self, envelopes: Sequence[Envelope]) -> None:
        if not envelopes:
            return

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            insert(cursor, self.sql, envelopes, self.channel)
            hit("postgres.enqueue.after")

        # One statement is a transaction of its own.
        self.database.run(operation, in_transaction=len(envelopes) > ROWS_PER_INSERT)

    async def _store_async(self, envelopes: Sequence[Envelope]) -> None:
        await asyncio.to_thread(self._store, envelopes)

    # -- receiving

    def consume(
        self, queue_name: str, prefetch: int = 1, timeout: int = 30_000
    ) -> PostgresConsumer:
        """Return a consumer; see `Broker.consume`.

        Raises:
            BrokerConnectionError: If the server cannot be reached; the text says why.
        """
        consumer = PostgresConsumer(self, queue_name, prefetch, timeout)
        self._start_caretaker()
        return consumer

    @property
    def membership(self) -> Membership:
        """This process's registration as an owner of leases."""
        with self._lock_of_this_process():
            if self._membership is None:
                self._membership = Membership(self.database, self.sql)
                self._membership.on_poison = self._tell_of_poison
            return self._membership

    @property
    def is_listening(self) -> bool:
        """Whether this process is told of what comes, so that it need not look often."""
        caretaker = self._caretaker
        return caretaker is not None and caretaker.is_listening

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
        with self._lock_of_this_process():
            if self._caretaker is None:
                self._caretaker = Caretaker(self)
                self._caretaker.start()

    # -- caring

    def maintain(self) -> None:
        """Drop what has expired, and take back what is leased to nobody.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        for queue_name in list(self.queues):
            arguments = {"queue": queue_name, "ttl": self.dead_message_ttl, "count": BATCH}
            while self._execute("expire_dead", arguments) >= BATCH:
                continue
        self._execute("purge_done", {"ttl": DONE_TTL})
        if self._execute("reclaim_orphans", {}):
            self.logger.warning("Messages leased to unknown workers went back to their queues.")

    def _execute(self, name: str, arguments: dict[str, Any]) -> int:
        return self.database.run(
            lambda cursor: cursor.execute(self.sql[name], arguments).rowcount,
            in_transaction=False,
            timeout_s=60,
        )

    def _tell_of_poison(self, delivery_ids: Sequence[bytes]) -> None:
        from .workflows import tell_of_poison  # it happens rarely, we hope

        tell_of_poison(self, delivery_ids)

    def make_history_store(self) -> PostgresStore:
        """Return a store in the schema of this broker; see `Broker`."""
        from ...history.stores.postgres import PostgresStore  # few applications need it

        return PostgresStore(broker=self)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where workflows are kept: in the schema, in one step with their messages."""
        from .workflows import store_for  # few applications have workflows

        return store_for(self)

    @property
    def inspection(self) -> Inspection:
        """The door for whoever wants to look at queues and act on them."""
        from .inspection import PostgresInspection  # few processes of an application need it

        return PostgresInspection(self)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue but those that are being run, dead letters included."""
        self._execute("flush", {"queue": q_name(queue_name)})

    def _is_busy(self, queue_name: str) -> bool:
        arguments = {"queue": queue_name}
        return self.database.run(
            lambda cursor: cursor.execute(self.sql["is_busy"], arguments).fetchall() == [(True,)],
            in_transaction=False,
        )

    def close(self) -> None:
        """Give back what is held, stop the thread and close connections; a next use opens them."""
        with self._lock_of_this_process():
            caretaker, self._caretaker = self._caretaker, None
            membership, self._membership = self._membership, None
        if caretaker is not None:
            caretaker.stop()
        try:
            if membership is not None:
                membership.leave()
        except BrokerConnectionError as error:
            # Nobody beats any more, so others take it for dead.
            self.logger.warning("Cannot sign off; others take over what is left: %s", error)
        finally:
            self.database.close()
