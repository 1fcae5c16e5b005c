"""This process as an owner of leases: registered in the store, alive by its lock.

An owner's number is never used again. Whoever finds a registered owner whose byte is free takes
back what it held, in the transaction that strikes it off, so a dead owner can take no lease.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING

from ...common import current_millis
from ...failpoints import hit
from ...logging import get_logger
from .leases import GRACE_S, lock_file_of
from .statements import load

if TYPE_CHECKING:
    import sqlite3

    from ...sqlite import Database

__all__ = ["Membership"]


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

    def owner(self) -> int:
        """Return our number; register if we are not."""
        with self._lock:
            if self._owner is None:
                slot = self._lock_file.acquire()
                try:
                    hit("sqlite.join.before_write")
                    self._owner = self._database.write(
                        lambda connection: _join(connection, slot), frees_space=True
                    )
                except BaseException:
                    self._lock_file.release(slot)
                    raise
                self._slot = slot
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
            self._database.write(partial(_strike_off, owner=owner), frees_space=True)
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
            moved = self._database.write(partial(_strike_off, owner=owner), frees_space=True)
            self.logger.warning(
                "Worker %d died: %d messages go back to their queues.", owner, moved
            )
            reclaimed += moved
        return reclaimed


def _join(connection: sqlite3.Connection, slot: int) -> int:
    """Register a new owner; one of the same slot must be dead, for we hold its lock."""
    found = connection.execute("SELECT id FROM workers WHERE slot = ?", (slot,)).fetchone()
    if found is not None:
        _strike_off(connection, found[0])
    cursor = connection.execute(
        "INSERT INTO workers (slot, pid, started_at) VALUES (?, ?, ?)",
        (slot, os.getpid(), current_millis()),
    )
    hit("sqlite.join.before_commit")
    owner = cursor.lastrowid
    assert owner is not None  # noqa: S101 (set by every INSERT into a rowid table)
    return owner


def _strike_off(connection: sqlite3.Connection, owner: int) -> int:
    """Give back everything an owner held and strike it off."""
    moved = connection.execute(load("reclaim"), {"owner": owner}).rowcount
    hit("sqlite.reclaim.before_delete")
    connection.execute("DELETE FROM workers WHERE id = ?", (owner,))
    hit("sqlite.reclaim.before_commit")
    return moved
