"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any

from ...broker import Consumer, MessageProxy
from ...delivery import Outcome, Settlement
from ...errors import BrokerConnectionError, ConnectionClosed, DecodeError
from ...failpoints import hit
from ...logging import get_logger
from ...postgres.link import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S
from .._store import decode, printable
from .settling import Settler

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

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
#: Seconds between two comparisons of what the store says we hold with what we hold.
RECONCILE_S = 10.0
#: Seconds after which a difference that was found must be found again to count.
CONFIRM_S = 1.0


class PostgresConsumer(Consumer):
    """Consumes one queue.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    is_owned = True
    #: A few statements, and opening the connection before.
    longest_call_s = 5 * COMMAND_TIMEOUT_S + CONNECT_TIMEOUT_S

    def __init__(
        self, broker: PostgresBroker, queue_name: str, prefetch: int, timeout: int
    ) -> None:
        self.logger = get_logger("dramatiq.brokers.postgres", type(self))
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        self.owner = broker.membership.owner()
        self._sql = broker.sql
        self._link = broker.database.link()
        self._settler = Settler(broker, self.owner)
        #: What was handed out and not settled, by delivery id. The object itself tells one delivery
        #: from another of the same message: only the latest can be settled.
        self._held: dict[bytes, MessageProxy] = {}
        self._unknown: set[bytes] = set()
        now = time.monotonic()
        self._reconcile_at = now + RECONCILE_S
        #: When something delayed will be due, as far as we know; or when to look again.
        self._promote_at = now
        #: What was found when we looked last: the generation of the news, when there will be
        #: something to take, and when to look again. Of no use once something was taken.
        self._seen = -1
        self._due_at = 0.0
        self._look_at = 0.0
        self._is_woken = False
        self._is_struck_off = False
        broker.consumers.add(self)

    # -- the contract of 2.x

    def __next__(self) -> MessageProxy | None:
        if len(self._held) >= self.prefetch:
            # Until something is settled, which somebody else has to do.
            threading.Event().wait(self.timeout / 1000)
            return None
        messages = self.fetch(1, self.timeout)
        return messages[0] if messages else None

    def ack(self, message: MessageProxy) -> None:
        """Remove a message for good; harmless for one that is not held."""
        self.settle([Settlement(message, Outcome.ACK)])

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; harmless for one that is not held."""
        self.settle([Settlement(message, Outcome.NACK)])

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back to their places in the queue."""
        self.settle([Settlement(message, Outcome.REQUEUE) for message in messages])

    def recover(self) -> bool:
        """Tell whether our leases are still ours: lost connections do not end them."""
        # What was taken before the error may not have arrived here.
        self._reconcile_at = 0.0
        return not self._is_struck_off

    def close(self) -> None:
        """Give back everything that was not settled."""
        held, self._held = self._held, {}
        self.broker.consumers.discard(self)
        try:
            if held:
                self._give_back(held)
        finally:
            self._link.close()

    # -- many at a time

    def fetch(self, max_messages: int, timeout_ms: float) -> list[MessageProxy]:
        """Take up to so many messages; wait for the first."""
        return self.exchange([], max_messages, timeout_ms)[1]

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle all in one transaction."""
        return self.exchange(settlements, 0, 0)[0]

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

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Store, in one transaction, what is to be there before a workflow goes on."""
        operations = [operation for each in settlements for _, operation in each.operations]
        if not operations:
            return

        def operate(cursor: psycopg.Cursor[Any]) -> None:
            for operation in operations:
                operation(cursor)

        self._link.run(operate)
        for each in settlements:
            each.operations.clear()

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        self._is_woken = True
        self.broker.news.nudge()

    def _refuse_if_struck_off(self) -> None:
        if self._is_struck_off:
            self.broker.membership.disown(self.owner)
            raise ConnectionClosed(
                f"worker {self.owner} was taken for dead and its messages were given to others; "
                "it goes on as a new one"
            )

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
            return self._settle_apart(settlements, ours), []

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
        messages = []
        bad = []
        again = []
        for _, _, _, delivery_id, attempts, payload in rows:
            try:
                message = decode(payload)
            except DecodeError as error:
                bad.append((delivery_id, payload, error))
                continue
            # Due by now, or it would not have been taken; workers would wait for it again.
            if isinstance(message.options.get("eta"), (int, float)):
                del message.options["eta"]
            proxy = MessageProxy(message)
            proxy._lease = delivery_id
            self._held[delivery_id] = proxy
            messages.append(proxy)
            if attempts > 1:
                again.append(delivery_id)
        if bad:
            self._bury(bad)
        if again:
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

    def _bury(self, bad: Sequence[tuple[bytes, bytes, DecodeError]]) -> None:
        """Move what cannot be decoded to the dead letters, as it is."""
        letters = []
        for delivery_id, payload, error in bad:
            why = printable(str(error.error or error))
            letters.append((delivery_id, f"DecodeError: {why}", None))
            self.logger.error(
                "Message in queue %r cannot be decoded; its %d bytes go to the dead letters as "
                "they are. Was it written by hand, or with another encoder? %s",
                self.queue_name,
                len(payload),
                why,
            )

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            self._settler.bury(cursor, letters)
            hit("postgres.bury.before_commit")

        try:
            self._link.run(operation)
        except BrokerConnectionError as error:
            # Raising would take the good ones along. These are leased and nobody knows of them,
            # so they go back to the queue before long and come here again.
            self.logger.warning("They cannot be moved now: %s", error)

    def _settle_apart(self, settlements: Sequence[Settlement], ours: Sequence[bool]) -> list[bool]:
        """Settle one by one, so that what cannot be stored for one does not hold up the others."""
        settled: list[bool] = []
        for each, is_ours in zip(settlements, ours, strict=True):
            try:
                settled += self._settle_one(each, is_ours)
            except BrokerConnectionError:
                raise
            except Exception as error:
                self.logger.exception(
                    "What follows from message %s cannot be stored; it goes to the dead letters.",
                    each.message,
                )
                each.message._follow_ups = None
                reason = f"its consequences cannot be stored: {type(error).__name__}: {error}"
                buried = Settlement(each.message, Outcome.NACK, reason=reason)
                settled += self._settle_one(buried, is_ours)
            self._forget(each.message)
        return settled

    def _settle_one(self, settlement: Settlement, is_ours: bool) -> list[bool]:
        return self._link.run(lambda cursor: self._settler.settle(cursor, [settlement], [is_ours]))

    # -- what is held

    def _is_held(self, message: MessageProxy) -> bool:
        return self._held.get(message._lease) is message

    def _forget(self, message: MessageProxy) -> None:
        if self._is_held(message):
            del self._held[message._lease]

    def _give_back(self, delivery_ids: Iterable[bytes]) -> None:
        channel = self.broker.channel
        arguments = {"dids": list(delivery_ids), "owner": self.owner}

        def operation(cursor: psycopg.Cursor[Any]) -> None:
            cursor.execute(self._sql["requeue"], arguments)
            cursor.execute(self._sql["notify"], {"channel": channel, "queue": self.queue_name})
            hit("postgres.give_back.before_commit")

        self._link.run(operation)

    def _reconcile(self) -> None:
        """Give back leases that we do not know of, seen twice in a row: a reply was lost."""
        now = time.monotonic()
        if now < self._reconcile_at:
            return
        arguments = {"owner": self.owner, "queue": self.queue_name}
        rows = self._link.run(
            lambda cursor: cursor.execute(self._sql["held"], arguments).fetchall(),
            in_transaction=False,
        )
        unknown = {delivery_id for (delivery_id,) in rows}
        # Other workers of this process share our registration.
        for consumer in list(self.broker.consumers):
            unknown.difference_update(list(consumer._held))
        strays = unknown & self._unknown
        if strays:
            self.logger.warning("Giving back %d messages that we did not know of.", len(strays))
            self._give_back(strays)
        self._unknown = unknown - strays
        self._reconcile_at = now + (CONFIRM_S if self._unknown else RECONCILE_S)
