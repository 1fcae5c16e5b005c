"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from ...errors import BrokerConnectionError
from ...failpoints import hit
from ...logging import get_logger
from ...postgres.link import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S
from .._leasing import LeasingConsumer, Undecodable
from .settling import Settler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import psycopg

    from ...delivery import MessageProxy, Settlement
    from .broker import PostgresBroker

    #: Priority, position, number, delivery id, attempts and payload.
    Row = tuple[int, int, int, bytes, int, bytes]

__all__ = ["PostgresConsumer"]

#: Most messages taken in one transaction.
MAX_BATCH = 1000
#: Seconds between two looks at a queue in which there was nothing, while we are told of what comes.
#: A piece of news may get lost, with the connection for example.
LISTENING_POLL_S = 2.0
#: The same while nobody tells us.
DEAF_POLL_S = 0.5
#: The same for what others are about to take.
LOCKED_POLL_S = 0.05
#: Seconds between two looks at what is due while there is always something else to take.
PROMOTE_S = 0.2


class PostgresConsumer(LeasingConsumer[bytes]):
    """Consumes one queue.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    broker: PostgresBroker
    #: A few statements, and opening the connection before.
    longest_call_s = 5 * COMMAND_TIMEOUT_S + CONNECT_TIMEOUT_S

    def __init__(
        self, broker: PostgresBroker, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        logger = get_logger("dramatiq.brokers.postgres", type(self))
        super().__init__(broker, logger, queue_name, prefetch, timeout)
        self._sql = broker.sql
        self._link = broker.database.link()
        self._settler = Settler(broker, self.owner)
        now = time.monotonic()
        #: When something delayed will be due, as far as we know; or when to look again.
        self._promote_at = now
        #: What was found when we looked last: the generation of the news, when there will be
        #: something to take, and when to look again. Of no use once something was taken.
        self._seen = -1
        self._due_at = 0.0
        self._look_at = 0.0

    def _pause(self, timeout_ms: float) -> None:
        threading.Event().wait(timeout_ms / 1000)

    def close(self) -> None:
        """Give back everything that was not settled."""
        try:
            super().close()
        finally:
            self._link.close()

    def exchange(
        self, settlements: Sequence[Settlement], max_messages: int, timeout_ms: float
    ) -> tuple[list[bool], list[MessageProxy]]:
        """Settle and take in one transaction."""
        self._refuse_if_struck_off()
        # Before taking anything: after an error from here on nobody would know of it.
        self._reconcile()
        if not settlements and not max_messages:
            return [], []
        count = min(max_messages, MAX_BATCH)
        deadline = time.monotonic() + timeout_ms / 1000
        tries = 0
        while True:
            seen = self.broker.news.generation(self.queue_name)
            if settlements or seen != self._seen or time.monotonic() >= self._due_at:
                settled, rows = self._transact(settlements, count)
                for each in settlements:
                    self._forget(each.message)
                self._due_at = 0.0
                if settlements or rows:
                    return settled, self._receive(rows) if rows else []
                self._look(seen)
                # What is there and cannot be taken is in another's transaction.
                tries += 1
                if tries > 1:
                    self._due_at = max(self._due_at, time.monotonic() + LOCKED_POLL_S)
            elif time.monotonic() >= self._look_at:
                self._look(seen)
            if self._wait(seen, deadline):
                return [], []

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        self._is_woken = True
        self.broker.news.nudge()

    def _write(self, operation: Callable[[psycopg.Cursor[Any]], None]) -> None:
        self._link.run(operation)

    # -- waiting

    def _look(self, seen: int) -> None:
        """Find out when there will be something to take, as far as is known.

        Args:
            seen: The generation of the news before.
        """
        arguments = {"owner": self.owner, "queue": self.queue_name}

        def operation(cursor: psycopg.Cursor[Any]) -> tuple[bool, int | None]:
            [(is_registered, due_ms)] = cursor.execute(self._sql["next_due"], arguments).fetchall()
            return is_registered, due_ms

        is_registered, due_ms = self._link.run(operation, in_transaction=False)
        self._is_struck_off = not is_registered
        self._refuse_if_struck_off()
        now = time.monotonic()
        self._seen = seen
        self._look_at = now + (LISTENING_POLL_S if self.broker.is_listening else DEAF_POLL_S)
        self._due_at = math.inf
        if due_ms is not None:
            self._due_at = self._promote_at = now + due_ms / 1000

    def _wait(self, seen: int, deadline: float) -> bool:
        """Wait until there may be something to take; True if it is time to return instead."""
        wait_s = min(deadline, self._look_at, self._due_at) - time.monotonic()
        if not self._is_woken and wait_s > 0:
            self.broker.news.wait(self.queue_name, seen, wait_s, lambda: self._is_woken)
        if self._is_woken or time.monotonic() >= deadline:
            self._is_woken = False
            return True
        return False

    # -- taking and settling

    def _transact(
        self, settlements: Sequence[Settlement], count: int
    ) -> tuple[list[bool], list[Row]]:
        ours = [self._is_held(each.message) for each in settlements]

        def operation(cursor: psycopg.Cursor[Any]) -> tuple[list[bool], list[Row]]:
            settled = self._settler.settle(cursor, settlements, ours) if settlements else []
            return settled, self._take(cursor, count) if count else []

        try:
            return self._link.run(operation)
        except BrokerConnectionError:
            raise
        except Exception:
            if not settlements:
                raise
            return self._settle_apart(settlements), []

    def _take(self, cursor: psycopg.Cursor[Any], count: int) -> list[Row]:
        arguments = {"owner": self.owner, "queue": self.queue_name, "count": count}
        now = time.monotonic()
        if now >= self._promote_at:
            cursor.execute(self._sql["promote"], arguments)
            # If there were more than so many, at once.
            self._promote_at = now if cursor.rowcount == count else now + PROMOTE_S
        hit("postgres.take.before_lease")
        rows = cursor.execute(self._sql["take"], arguments).fetchall()
        rows.sort()
        return rows

    def _receive(self, rows: Sequence[Row]) -> list[MessageProxy]:
        hit("postgres.take.after_commit")
        messages, bad = self._admit((row[3], row[5]) for row in rows)
        if bad:
            self._bury(bad)
        again = [lease for _, _, _, lease, attempts, _ in rows if attempts > 1]
        if again := [lease for lease in again if lease in self._held]:
            self._skip_done(again, messages)
        return messages

    def _skip_done(self, again: Sequence[bytes], messages: list[MessageProxy]) -> None:
        """Drop what ran to its end under a lease that was lost; it is acknowledged now."""
        arguments = {"dids": list(again), "owner": self.owner}

        def operation(cursor: psycopg.Cursor[Any]) -> set[bytes]:
            found = cursor.execute(self._sql["find_done"], arguments).fetchall()
            done = {delivery_id for (delivery_id,) in found}
            if done:
                cursor.execute(self._sql["ack"], {**arguments, "dids": list(done)})
            return done

        try:
            done = self._link.run(operation)
        except BrokerConnectionError as error:
            # Raising would take along what was leased; running twice is the lesser evil.
            self.logger.warning("Cannot look for what has run already: %s", error)
            return
        if done:
            messages[:] = [each for each in messages if each._lease not in done]
            for delivery_id in done:
                del self._held[delivery_id]

    def _bury(self, bad: Sequence[Undecodable[bytes]]) -> None:
        """Move what cannot be decoded to the dead letters, as it is."""
        letters = [(delivery_id, reason, None) for delivery_id, reason in bad]

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            self._settler.bury(cursor, letters)
            hit("postgres.bury.before_commit")

        self._bury_by(operation)

    def _settle_one(self, settlement: Settlement) -> list[bool]:
        ours = [self._is_held(settlement.message)]
        return self._link.run(lambda cursor: self._settler.settle(cursor, [settlement], ours))

    # -- what is held

    def _find_held(self) -> set[bytes]:
        arguments = {"owner": self.owner, "queue": self.queue_name}
        rows = self._link.run(
            lambda cursor: cursor.execute(self._sql["held"], arguments).fetchall(),
            in_transaction=False,
        )
        return {delivery_id for (delivery_id,) in rows}

    def _give_back(self, leases: Iterable[bytes]) -> None:
        channel = self.broker.channel
        arguments = {"dids": list(leases), "owner": self.owner}

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(self._sql["requeue"], arguments)
            cursor.execute(self._sql["notify"], {"channel": channel, "queue": self.queue_name})
            hit("postgres.give_back.before_commit")

        self._write(operation)
