"""This process as an owner of leases: registered in the store, alive by its lock.

An owner's number is never used again. Whoever finds a registered owner whose byte is free takes
back what it held, in the transaction that strikes it off, so a dead owner can take no lease. What
the owner's flight recorders say it was running is to blame for its death.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ... import flight_recorder
from ...common import current_millis
from ...failpoints import hit
from ...logging import get_logger
from .._store import MAX_CRASHES, delay_after_crash, poison_reason
from .leases import GRACE_S, lock_file_of
from .statements import load

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from ...sqlite import Database

__all__ = ["Membership"]


class Reclaimed(NamedTuple):
    """What striking off a dead owner did."""

    #: How many messages went back, poisonous ones included.
    moved: int
    #: Number and queue of each message that is dead now.
    poison: list[tuple[int, str]]
    #: The owner's flight recorders, which nobody needs any more.
    recorders: list[str]


class Membership:
    """The registration of one broker in one process. Thread-safe; made anew after a fork.

    Args:
        database: Where owners are registered.
    """

    def __init__(self, database: Database) -> None:
        self.logger = get_logger("dramatiq.brokers.sqlite", type(self))
        self.pid = os.getpid()
        self._database = database
        self._lock_file = lock_file_of(database.path)
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._slot: int | None = None
        self._recorders: set[str] = set()
        #: Told the numbers of messages that have brought down too many processes.
        self.on_poison: Callable[[list[int]], None] = lambda _: None

    def add_recorder(self, name: str) -> None:
        """Register a flight recorder of this process; at once if the process is registered.

        Raises:
            BrokerConnectionError: If the file cannot be written.
        """
        with self._lock:
            self._recorders.add(name)
            owner = self._owner
            if owner is not None:
                self._database.write(
                    lambda connection: _add_recorders(connection, owner, [name]), frees_space=True
                )

    def owner(self) -> int:
        """Return our number; register if we are not."""
        with self._lock:
            if self._owner is None:
                slot = self._lock_file.acquire()
                try:
                    hit("sqlite.join.before_write")
                    self._owner, predecessor = self._database.write(
                        lambda connection: _join(connection, slot, self._recorders),
                        frees_space=True,
                    )
                except BaseException:
                    self._lock_file.release(slot)
                    raise
                self._slot = slot
                if predecessor is not None:
                    self._conclude(predecessor)
            return self._owner

    def disown(self, owner: int) -> None:
        """Forget a number that turned out to be struck off, so that the next one is new."""
        with self._lock:
            if self._owner == owner:
                self._owner = None
                if self._slot is not None:
                    self._lock_file.release(self._slot)
                    self._slot = None

    def leave(self) -> None:
        """Give back what is still ours and strike us off. Harmless when called twice."""
        with self._lock:
            owner, slot = self._owner, self._slot
            self._owner = self._slot = None
        if owner is None or slot is None:
            return
        try:
            # What still runs is not to blame: this process does not die.
            self._database.write(partial(_strike_off, owner=owner, blames=False), frees_space=True)
            hit("sqlite.leave.before_unlock")
        finally:
            # Whatever happened to the row: without the lock, others will take it for dead.
            self._lock_file.release(slot)

    def sweep(self) -> int:
        """Take back what dead owners held; return how many messages that were."""
        if self._lock_file.follow():
            self.logger.critical(
                "Lock file %s was deleted or replaced while in use. It is made again, and workers "
                "that died are noticed again in %d seconds. Leave that file alone: without it, "
                "messages may run twice.",
                self._lock_file.path,
                GRACE_S,
            )
        owners = self._database.read(
            lambda connection: connection.execute("SELECT id, slot FROM workers").fetchall()
        )
        dead = [owner for owner, slot in owners if not self._lock_file.is_alive(slot)]
        reclaimed = 0
        for owner in dead:
            done = self._database.write(partial(_strike_off, owner=owner), frees_space=True)
            self._conclude(done)
            self.logger.warning(
                "Worker %d died: %d messages go back to their queues.",
                owner,
                done.moved - len(done.poison),
            )
            reclaimed += done.moved
        return reclaimed

    def _conclude(self, done: Reclaimed) -> None:
        """Tell what is dead; remove the recorders, which others may read until that is stored."""
        for number, queue_name in done.poison:
            self.logger.critical(
                "Message %d of queue %r is dead: %d processes died while they ran it.",
                number,
                queue_name,
                MAX_CRASHES,
            )
        if done.poison:
            self.on_poison([number for number, _ in done.poison])
        for name in done.recorders:
            flight_recorder.forget(name)


def _join(
    connection: sqlite3.Connection, slot: int, recorders: Iterable[str]
) -> tuple[int, Reclaimed | None]:
    """Register a new owner; one of the same slot must be dead, for we hold its lock."""
    found = connection.execute("SELECT id FROM workers WHERE slot = ?", (slot,)).fetchone()
    predecessor = None if found is None else _strike_off(connection, found[0])
    cursor = connection.execute(
        "INSERT INTO workers (slot, pid, started_at) VALUES (?, ?, ?)",
        (slot, os.getpid(), current_millis()),
    )
    owner = cursor.lastrowid
    assert owner is not None  # noqa: S101 (set by every INSERT into a rowid table)
    _add_recorders(connection, owner, recorders)
    hit("sqlite.join.before_commit")
    return owner, predecessor


def _add_recorders(connection: sqlite3.Connection, owner: int, names: Iterable[str]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO worker_recorders VALUES (?, ?)", [(owner, name) for name in names]
    )


def _strike_off(connection: sqlite3.Connection, owner: int, *, blames: bool = True) -> Reclaimed:
    """Give back everything an owner held, what it was running with the blame; strike it off."""
    found = "SELECT name FROM worker_recorders WHERE worker = ?"
    recorders = [name for (name,) in connection.execute(found, (owner,))]
    blamed = _blame(connection, owner, recorders) if blames else []
    moved = connection.execute(load("reclaim"), {"owner": owner}).rowcount
    hit("sqlite.reclaim.before_delete")
    connection.execute("DELETE FROM workers WHERE id = ?", (owner,))
    connection.execute("DELETE FROM worker_recorders WHERE worker = ?", (owner,))
    hit("sqlite.reclaim.before_commit")
    poison = [(number, queue) for number, queue, crashes in blamed if crashes >= MAX_CRASHES]
    return Reclaimed(moved + len(blamed), poison, recorders)


def _blame(
    connection: sqlite3.Connection, owner: int, recorders: Iterable[str]
) -> list[tuple[int, str, int]]:
    """Take back what a dead owner was running; return number, queue and crashes of each."""
    leases = [lease for name in recorders for lease in flight_recorder.read(name)]
    numbers = [int(lease) for lease in leases if lease.isdigit()]
    now = current_millis()
    blamed = []
    for rank, number in enumerate(numbers):
        arguments = {
            "owner": owner,
            "seq": number,
            "now": now,
            "max_crashes": MAX_CRASHES,
            "first_delay": delay_after_crash(1, rank, len(numbers)),
            "next_delay": delay_after_crash(2, rank, len(numbers)),
            "why": poison_reason(MAX_CRASHES),
        }
        blamed += connection.execute(load("blame"), arguments).fetchall()
    return blamed
