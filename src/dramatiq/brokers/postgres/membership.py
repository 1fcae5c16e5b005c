"""This process as an owner of leases: registered in the store, alive by its session and its beat.

An owner's number is never used again. Whoever takes an owner for dead deletes its row first and
takes back what it held in the same transaction: an owner without a row can lease nothing, and one
that is about to lease something holds a lock on its row until that is done.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import flight_recorder
from ...failpoints import hit
from ...logging import get_logger
from .._processes import host, is_alive, started
from .._store import MAX_CRASHES, delay_after_crash, poison_reason
from .statements import channel_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from ...postgres import Database, Statements

__all__ = ["LOCK_SILENCE_MS", "LONG_SILENCE_MS", "POOLED_SILENCE_MS", "Membership", "Suspect"]

#: Milliseconds of silence after which an owner whose lock is free is dead.
LOCK_SILENCE_MS = 10_000
#: The same for one whose lock is not free: the server may not have noticed that it is gone.
LONG_SILENCE_MS = 60_000
#: The same for one that has no lock, behind a pooler.
POOLED_SILENCE_MS = 30_000
#: Milliseconds after the server's start within which nobody is dead by the clock: all have to come
#: back first.
SERVER_GRACE_MS = 15_000


class Reclaimed(NamedTuple):
    """What striking off a dead owner did."""

    #: How many messages went back, poisonous ones included.
    moved: int
    #: Id and queue of each message that is dead now.
    poison: list[tuple[bytes, str]]
    #: The owner's flight recorders, which nobody needs any more.
    recorders: list[str]


class Suspect(NamedTuple):
    """An owner that may be dead."""

    owner: int
    host: str
    pid: int
    started: str
    has_lock: bool
    silence_ms: int
    server_up_ms: int


class Membership:
    """The registration of one broker in one process. Thread-safe; made anew after a fork.

    Args:
        database: Where owners are registered.
        sql: The broker's statements.
    """

    def __init__(self, database: Database, sql: Statements) -> None:
        self.logger = get_logger("dramatiq.brokers.postgres", type(self))
        self._database = database
        self._sql = sql
        self._channel = channel_of(database.schema)
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._recorders: set[str] = set()
        self._host = host()
        #: The other workers of this machine, as of the last sweep. Replaced, never changed.
        self._siblings: list[Suspect] = []
        #: Told the ids of messages that have brought down too many processes.
        self.on_poison: Callable[[list[bytes]], None] = lambda _: None

    @property
    def current(self) -> int | None:
        """Our number, if we are registered."""
        return self._owner

    def add_recorder(self, name: str) -> None:
        """Register a flight recorder of this process; at once if the process is registered.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        with self._lock:
            self._recorders.add(name)
            if self._owner is not None:
                arguments = {"owner": self._owner, "recorders": [name]}
                self._database.run(
                    lambda cursor: cursor.execute(self._sql["add_recorders"], arguments)
                )

    def owner(self) -> int:
        """Return our number; register if we are not.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        with self._lock:
            if self._owner is None:
                self._owner = self._database.run(self._join)
            return self._owner

    def _join(self, cursor: psycopg.Cursor[Any]) -> int:
        arguments = {
            "host": self._host,
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "recorders": sorted(self._recorders),
        }
        [(owner,)] = cursor.execute(self._sql["join"], arguments).fetchall()
        hit("postgres.join.before_commit")
        return int(owner)

    def disown(self, owner: int) -> None:
        """Forget a number that turned out to be struck off, so that the next one is new."""
        with self._lock:
            if self._owner == owner:
                self._owner = None

    def leave(self) -> None:
        """Give back what is still ours and strike us off. Harmless when called twice.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        with self._lock:
            owner, self._owner = self._owner, None
        if owner is not None:
            # What still runs is not to blame: this process does not die.
            self._database.run(lambda cursor: self._strike_off(cursor, owner, blames=False))

    # -- the others

    def has_dead_sibling(self) -> bool:
        """Tell whether a worker of this machine is gone, without asking the server."""
        return not all(is_alive(each.pid, each.started) for each in self._siblings)

    def sweep(self, *, is_graceful: bool) -> int:
        """Take back what dead owners held; return how many messages that were.

        Args:
            is_graceful: Whether nobody is taken for dead by the clock, because nobody could reach
                the server for a while.

        Raises:
            BrokerConnectionError: If the server cannot be reached.
        """
        arguments = {"host": self._host, "silence": LOCK_SILENCE_MS}
        rows = self._database.run(
            lambda cursor: cursor.execute(self._sql["suspects"], arguments).fetchall(),
            in_transaction=False,
        )
        suspects = [Suspect._make(row) for row in rows]
        self._siblings = [
            each for each in suspects if each.host == self._host and each.owner != self._owner
        ]
        return sum(
            self._reclaim(suspect, silence)
            for suspect in suspects
            if (silence := self._judge(suspect, is_graceful=is_graceful)) is not None
        )

    def _judge(self, suspect: Suspect, *, is_graceful: bool) -> int | None:
        """Return after how many milliseconds of silence an owner is dead; None if it is not."""
        if suspect.owner == self._owner:
            return None
        if suspect.host == self._host:
            # Of those on this machine we know better than by their beats.
            return None if is_alive(suspect.pid, suspect.started) else 0
        if is_graceful or suspect.server_up_ms < SERVER_GRACE_MS:
            return None
        if not suspect.has_lock:
            limit = POOLED_SILENCE_MS
        elif suspect.silence_ms >= LONG_SILENCE_MS:
            limit = LONG_SILENCE_MS
        else:
            limit = LOCK_SILENCE_MS
        return limit if suspect.silence_ms >= limit else None

    def _reclaim(self, suspect: Suspect, silence: int) -> int:
        needs_lock = suspect.has_lock and silence == LOCK_SILENCE_MS
        owner = suspect.owner

        def operation(cursor: psycopg.Cursor[Any]) -> Reclaimed | None:
            if needs_lock:
                [(is_free,)] = cursor.execute(self._sql["try_lock"], {"owner": owner}).fetchall()
                if not is_free:
                    return None
            return self._strike_off(cursor, owner, silence=silence)

        done = self._database.run(operation)
        if done is None:
            return 0
        self._conclude(done)
        self.logger.warning(
            "Worker %d died: %d messages go back to their queues.",
            owner,
            done.moved - len(done.poison),
        )
        return done.moved

    def _conclude(self, done: Reclaimed) -> None:
        """Tell what is dead; remove the recorders, which others may read until that is stored."""
        for delivery_id, queue_name in done.poison:
            self.logger.critical(
                "Message %s of queue %r is dead: %d processes died while they ran it.",
                delivery_id.hex(),
                queue_name,
                MAX_CRASHES,
            )
        if done.poison:
            self.on_poison([delivery_id for delivery_id, _ in done.poison])
        for name in done.recorders:
            flight_recorder.forget(name)

    def _strike_off(
        self, cursor: psycopg.Cursor[Any], owner: int, *, silence: int = 0, blames: bool = True
    ) -> Reclaimed | None:
        """Strike an owner off and give back all it held, what it was running with the blame.

        Returns:
            What that did; None if somebody else was faster, or it has been heard of meanwhile.
        """
        suspect = {"owner": owner, "silence": silence}
        found = cursor.execute(self._sql["strike_off"], suspect).fetchall()
        if not found:
            return None
        [(recorders,)] = found
        hit("postgres.reclaim.before_blame")
        blamed = self._blame(cursor, owner, recorders) if blames else []
        arguments = {"owner": owner, "channel": self._channel}
        moved = cursor.execute(self._sql["reclaim"], arguments).fetchall()
        hit("postgres.reclaim.before_commit")
        poison = [(did, queue) for did, queue, crashes in blamed if crashes >= MAX_CRASHES]
        return Reclaimed(sum(number for number, _ in moved) + len(blamed), poison, recorders)

    def _blame(
        self, cursor: psycopg.Cursor[Any], owner: int, recorders: Sequence[str]
    ) -> list[tuple[bytes, str, int]]:
        """Take back what a dead owner was running; return id, queue and crashes of each."""
        dids = [lease for name in recorders for lease in flight_recorder.read(name)]
        if not dids:
            return []
        count = len(dids)
        arguments = {
            "owner": owner,
            "dids": dids,
            "first": [delay_after_crash(1, rank, count) for rank in range(count)],
            "next": [delay_after_crash(2, rank, count) for rank in range(count)],
            "max_crashes": MAX_CRASHES,
            "why": poison_reason(MAX_CRASHES),
        }
        return cursor.execute(self._sql["blame"], arguments).fetchall()
