"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...broker import Consumer, MessageProxy
from ...common import current_millis
from ...delivery import Outcome, Settlement
from ...errors import BrokerConnectionError, ConnectionClosed, DecodeError
from ...failpoints import hit
from ...logging import get_logger
from ...sqlite.failures import is_disk_full
from .._store import decode, printable
from .statements import insert, json_list, load, text_or_blob
from .taking import Taken, select_ready

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from .broker import SQLiteBroker

__all__ = ["SQLiteConsumer"]

#: Seconds a transaction may take beyond the wait for others that write: a slow disk.
LONGEST_CALL_S = 60.0
#: Most messages taken in one transaction.
MAX_BATCH = 1000
#: Seconds between two comparisons of what the store says we hold with what we hold.
RECONCILE_S = 10.0
#: Seconds after which a difference that was found must be found again to count.
CONFIRM_S = 1.0


class SQLiteConsumer(Consumer):
    """Consumes one queue.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    is_owned = True

    def __init__(self, broker: SQLiteBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.logger = get_logger("dramatiq.brokers.sqlite", type(self))
        self.broker = broker
        self.database = broker.database
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout = timeout
        self.owner = broker.membership.owner()
        self.longest_call_s = LONGEST_CALL_S + broker.database.busy_timeout_ms / 1000
        #: What was handed out and not settled, by seq. The object itself tells one delivery from
        #: another of the same message: only the latest can be settled.
        self._held: dict[int, MessageProxy] = {}
        self._unknown: set[int] = set()
        self._reconcile_at = time.monotonic() + RECONCILE_S
        self._batch_limit = MAX_BATCH
        self._is_woken = False
        self._is_struck_off = False
        broker.consumers.add(self)

    # -- the contract of 2.x

    def __next__(self) -> MessageProxy | None:
        if len(self._held) >= self.prefetch:
            self._wait(self.timeout, may_return_early=False)
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
        """Tell whether our leases are still ours: errors of the file do not end them."""
        # What was taken before the error may not have arrived here.
        self._reconcile_at = 0.0
        return not self._is_struck_off

    def close(self) -> None:
        """Give back everything that was not settled."""
        held, self._held = self._held, {}
        self.broker.consumers.discard(self)
        if held:
            self._give_back(held)

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
        if self._is_struck_off:
            self.broker.membership.disown(self.owner)
            raise ConnectionClosed(
                f"worker {self.owner} was taken for dead and its messages were given to others; "
                "it goes on as a new one"
            )
        # Before taking anything: after an error from here on nobody would know of it.
        self._reconcile()
        if not settlements and not (max_messages and self._wait(timeout_ms)):
            return [], []
        count = min(max_messages, self._batch_limit)
        try:
            settled, taken = self._transact(settlements, count)
        except BrokerConnectionError:
            raise
        except Exception:
            if not settlements:
                raise
            return self._settle_apart(settlements), []
        for each in settlements:
            self._forget(each.message)
        return settled, [] if taken is None else self._receive(taken)

    def keep(self, settlements: Sequence[Settlement]) -> None:
        """Store what is to be there before a workflow goes on; see `Consumer`."""
        operations = [operation for each in settlements for _, operation in each.operations]
        if not operations:
            return

        def operate(connection: sqlite3.Connection) -> None:
            for operation in operations:
                operation(connection)

        self.database.write(operate, frees_space=True)
        for each in settlements:
            each.operations.clear()

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        self._is_woken = True
        self.broker.news.tell()

    # -- waiting

    def _wait(self, timeout_ms: float, *, may_return_early: bool = True) -> bool:
        """Wait until there is something to take; False if there is not."""
        deadline = time.monotonic() + timeout_ms / 1000
        news = self.broker.news
        while True:
            seen = news.generation
            now = current_millis()
            due = self._next_due() if may_return_early else None
            if due is not None and due <= now:
                return True
            remaining = deadline - time.monotonic()
            if due is not None:
                remaining = min(remaining, (due - now) / 1000)
            if self._is_woken or time.monotonic() >= deadline:
                self._is_woken = False
                return False
            news.wait(seen, max(0.001, remaining), lambda: self._is_woken)

    def _next_due(self) -> int | None:
        due: int | None = self.database.read(
            lambda connection: connection.execute(
                load("next_due"), {"queue": self.queue_name}
            ).fetchone()[0]
        )
        return due

    # -- taking

    def _transact(
        self, settlements: Sequence[Settlement], count: int
    ) -> tuple[list[bool], Taken | None]:
        def operation(connection: sqlite3.Connection) -> tuple[list[bool], Taken | None]:
            settled = self._settle(connection, settlements) if settlements else []
            return settled, self._take(connection, count) if count else None

        try:
            done = self.database.write(operation, frees_space=True)
        except BrokerConnectionError as error:
            if not is_disk_full(error):
                raise
            return self._transact_less(settlements, count, error)
        self._batch_limit = min(2 * self._batch_limit, MAX_BATCH)
        return done

    def _transact_less(
        self, settlements: Sequence[Settlement], count: int, error: BrokerConnectionError
    ) -> tuple[list[bool], Taken | None]:
        """Do less at a time on a full disk, which may have space for that: first only settle."""
        self._batch_limit = max(1, count // 8)
        if settlements and count:
            return self._transact(settlements, 0)
        half = len(settlements) // 2
        if half:
            first = self._transact(settlements[:half], 0)[0]
            return first + self._transact(settlements[half:], 0)[0], None
        if count > 1:
            return self._transact([], self._batch_limit)
        raise error

    def _take(self, connection: sqlite3.Connection, count: int) -> Taken | None:
        queue = {"queue": self.queue_name}
        registered = {**queue, "owner": self.owner}
        row = connection.execute(load("registered"), registered).fetchone()
        self._is_struck_off = row is None
        if row is None or row[0]:
            return None  # or the queue is paused
        due = {**queue, "now": current_millis(), "count": self._batch_limit}
        connection.execute(load("promote"), due)
        if connection.execute("SELECT 1 FROM done LIMIT 1").fetchone():
            connection.execute(load("skip_done"), queue)
        taken = select_ready(connection, self.queue_name, count)
        if taken is not None:
            hit("sqlite.take.before_lease")
            arguments = {"owner": self.owner, "seqs": json_list(taken.seqs)}
            connection.execute(load("lease"), arguments)
            hit("sqlite.take.before_commit")
        return taken

    def _receive(self, taken: Taken) -> list[MessageProxy]:
        hit("sqlite.take.after_commit")
        messages = []
        bad = []
        for seq, payload in zip(taken.seqs, taken.payloads, strict=True):
            try:
                message = decode(payload)
            except DecodeError as error:
                bad.append((seq, payload, error))
                continue
            # Due by now, or it would not have been taken; workers would wait for it again.
            if isinstance(message.options.get("eta"), (int, float)):
                del message.options["eta"]
            proxy = MessageProxy(message)
            proxy._lease = seq
            self._held[seq] = proxy
            messages.append(proxy)
        if bad:
            self._bury(bad)
        return messages

    def _bury(self, bad: Sequence[tuple[int, bytes, DecodeError]]) -> None:
        """Move what cannot be decoded to the dead letters, as it is."""

        def operation(connection: sqlite3.Connection) -> None:
            for seq, _, error in bad:
                reason = f"DecodeError: {error.error or error}"
                connection.execute(load("nack"), self._nack_arguments(seq, reason, None))
            hit("sqlite.bury.before_commit")

        for _, payload, error in bad:
            self.logger.error(
                "Message in queue %r cannot be decoded; its %d bytes go to the dead letters as "
                "they are. Was it written by hand, or with another encoder? %s",
                self.queue_name,
                len(payload),
                printable(str(error.error or error)),
            )
        try:
            self.database.write(operation, frees_space=True)
        except BrokerConnectionError as error:
            # Raising would take the good ones along. These are leased and nobody knows of them,
            # so they go back to the queue before long and come here again.
            self.logger.warning("They cannot be moved now: %s", error)

    # -- settling

    def _settle(
        self, connection: sqlite3.Connection, settlements: Sequence[Settlement]
    ) -> list[bool]:
        """Settle all at once; if a lease turns out to be lost, find out which."""
        hit("sqlite.settle.before_move")
        settled = [self._is_held(each.message) for each in settlements]
        ours = _where(settlements, settled)
        connection.execute("SAVEPOINT settle")
        if self._move(connection, ours) != len(ours):
            connection.execute("ROLLBACK TO settle")
            held = self._still_held(connection)
            for index, each in enumerate(settlements):
                settled[index] = settled[index] and each.message._lease in held
                held.discard(each.message._lease)  # the second of the same message is too late
            self._move(connection, _where(settlements, settled))
        if not all(settled):
            self._remember_done(connection, _where(settlements, [not each for each in settled]))
        connection.execute("RELEASE settle")
        hit("sqlite.settle.before_follow_ups")
        for each in _where(settlements, settled):
            if each.message._follow_ups is not None:
                insert(connection, each.envelopes)
                for database, operation in each.operations:
                    assert database is self.database  # noqa: S101 (collected by this broker)
                    operation(connection)
        hit("sqlite.settle.before_commit")
        return settled

    def _move(self, connection: sqlite3.Connection, settlements: Sequence[Settlement]) -> int:
        """Carry out the outcomes; return how many messages were still ours."""
        acked = [each.message._lease for each in settlements if each.outcome is Outcome.ACK]
        requeued = [each.message._lease for each in settlements if each.outcome is Outcome.REQUEUE]
        moved = 0
        for name, seqs in (("ack", acked), ("requeue", requeued)):
            if seqs:
                arguments = {"owner": self.owner, "seqs": json_list(seqs)}
                moved += connection.execute(load(name), arguments).rowcount
        for each in settlements:
            if each.outcome is Outcome.NACK:
                arguments = self._nack_arguments(
                    each.message._lease, each.reason or "rejected", each.payload
                )
                moved += connection.execute(load("nack"), arguments).rowcount
        return moved

    def _nack_arguments(self, seq: int, reason: str, payload: bytes | None) -> dict[str, Any]:
        return {
            "seq": seq,
            "owner": self.owner,
            "now": current_millis(),
            "why": printable(reason),
            "payload": None if payload is None else text_or_blob(payload),
        }

    def _still_held(self, connection: sqlite3.Connection) -> set[int]:
        arguments = {"owner": self.owner, "queue": self.queue_name}
        return {seq for (seq,) in connection.execute(load("held"), arguments)}

    def _remember_done(
        self, connection: sqlite3.Connection, settlements: Sequence[Settlement]
    ) -> None:
        """Keep others from running again what was finished under a lost lease.

        Where something follows from it, a retry for example, that was not stored: it must run.
        """
        seqs = [
            each.message._lease
            for each in settlements
            if each.outcome is Outcome.ACK and not (each.envelopes or each.operations)
        ]
        arguments = {"seqs": json_list(seqs), "now": current_millis()}
        connection.execute(load("remember_done"), arguments)

    def _settle_apart(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Settle one by one, so that what cannot be stored for one does not hold up the others."""
        settled = []
        for each in settlements:
            try:
                settled += self._transact([each], 0)[0]
            except BrokerConnectionError:
                raise
            except Exception as error:
                self.logger.exception(
                    "What follows from message %s cannot be stored; it goes to the dead letters.",
                    each.message,
                )
                each.message._follow_ups = None
                buried = Settlement(
                    each.message,
                    Outcome.NACK,
                    reason=f"its consequences cannot be stored: {type(error).__name__}: {error}",
                )
                settled += self._transact([buried], 0)[0]
            self._forget(each.message)
        return settled

    # -- what is held

    def _is_held(self, message: MessageProxy) -> bool:
        return self._held.get(message._lease) is message

    def _forget(self, message: MessageProxy) -> None:
        if self._is_held(message):
            del self._held[message._lease]

    def _give_back(self, seqs: Iterable[int]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            arguments = {"owner": self.owner, "seqs": json_list(seqs)}
            connection.execute(load("requeue"), arguments)
            hit("sqlite.give_back.before_commit")

        self.database.write(operation, frees_space=True)

    def _reconcile(self) -> None:
        """Give back leases that we do not know of, seen twice in a row: a reply was lost."""
        now = time.monotonic()
        if now < self._reconcile_at:
            return
        unknown = self.database.read(self._still_held)
        # Other workers of this process share our registration.
        for consumer in list(self.broker.consumers):
            unknown.difference_update(list(consumer._held))
        strays = unknown & self._unknown
        if strays:
            self.logger.warning("Giving back %d messages that we did not know of.", len(strays))
            self._give_back(strays)
        self._unknown = unknown - strays
        self._reconcile_at = now + (CONFIRM_S if self._unknown else RECONCILE_S)


def _where(settlements: Sequence[Settlement], chosen: Sequence[bool]) -> list[Settlement]:
    return [each for each, is_chosen in zip(settlements, chosen, strict=True) if is_chosen]
