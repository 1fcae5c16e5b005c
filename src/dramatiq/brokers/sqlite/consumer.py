"""Hands out the messages of one queue and settles them. Belongs to one thread, but for `wake`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...delivery import MessageProxy, Outcome, Settlement
from ...errors import BrokerConnectionError
from ...failpoints import hit
from ...logging import get_logger
from ...sqlite.failures import is_disk_full
from .._leasing import LeasingConsumer, Undecodable
from .._store import printable
from .statements import insert, json_list, load, text_or_blob
from .taking import Taken, select_ready

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from .broker import SQLiteBroker

__all__ = ["SQLiteConsumer"]

#: Seconds a transaction may take beyond the wait for others that write: a slow disk.
LONGEST_CALL_S = 60.0
#: Most messages taken in one transaction.
MAX_BATCH = 1000


class SQLiteConsumer(LeasingConsumer[int]):
    """Consumes one queue.

    Args:
        broker: The broker.
        queue_name: The queue.
        prefetch: How many messages `__next__` hands out at a time.
        timeout: Milliseconds `__next__` waits.
    """

    broker: SQLiteBroker

    def __init__(self, broker: SQLiteBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        logger = get_logger("dramatiq.brokers.sqlite", type(self))
        super().__init__(broker, logger, queue_name, prefetch, timeout)
        self.database = broker.database
        self.longest_call_s = LONGEST_CALL_S + broker.database.busy_timeout_ms / 1000
        self._batch_limit = MAX_BATCH

    # -- many at a time

    def exchange(
        self, settlements: Sequence[Settlement], max_messages: int, timeout_ms: float
    ) -> tuple[list[bool], list[MessageProxy]]:
        """Settle and take in one transaction."""
        self._refuse_if_struck_off()
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

    def wake(self) -> None:
        """Make a waiting `fetch` return."""
        self._is_woken = True
        self.broker.news.tell()

    def _write(self, operation: Callable[[sqlite3.Connection], None]) -> None:
        self.database.write(operation, frees_space=True)

    # -- waiting

    def _pause(self, timeout_ms: float) -> None:
        self._wait(timeout_ms, may_return_early=False)

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
        messages, bad = self._admit(zip(taken.seqs, taken.payloads, strict=True))
        if bad:
            self._bury(bad)
        return messages

    def _bury(self, bad: Sequence[Undecodable[int]]) -> None:
        """Move what cannot be decoded to the dead letters, as it is."""

        def operation(connection: sqlite3.Connection) -> None:
            for seq, reason in bad:
                connection.execute(load("nack"), self._nack_arguments(seq, reason, None))
            hit("sqlite.bury.before_commit")

        self._bury_by(operation)

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

    def _settle_one(self, settlement: Settlement) -> list[bool]:
        return self._transact([settlement], 0)[0]

    # -- what is held

    def _find_held(self) -> set[int]:
        return self.database.read(self._still_held)

    def _give_back(self, leases: Iterable[int]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            arguments = {"owner": self.owner, "seqs": json_list(leases)}
            connection.execute(load("requeue"), arguments)
            hit("sqlite.give_back.before_commit")

        self._write(operation)


def _where(settlements: Sequence[Settlement], chosen: Sequence[bool]) -> list[Settlement]:
    return [each for each, is_chosen in zip(settlements, chosen, strict=True) if is_chosen]
