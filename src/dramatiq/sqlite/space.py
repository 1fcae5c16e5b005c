"""Getting by on a full disk: what the writer does between two transactions.

A log that is cut off and a database that is rewritten give space back; the ballast lends some
until then. Belongs to the writer's thread.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from ..logging import get_logger
from .ballast import BALLAST_BYTES

if TYPE_CHECKING:
    from .ballast import Ballast

__all__ = ["Space"]

#: Seconds between two attempts to make the database smaller.
SHRINK_INTERVAL_S = 1.0
#: Seconds between two warnings of a full disk.
WARNING_INTERVAL_S = 60.0
#: Most bytes of content that are rewritten, in memory, to make a database small.
MAX_REWRITTEN_BYTES = 64 * 1024 * 1024


class Space:
    """Looks after the space of one database.

    Args:
        path: Named in warnings.
        ballast: What is given up when the disk is full.
    """

    def __init__(self, path: str, ballast: Ballast) -> None:
        self.logger = get_logger("dramatiq.sqlite", type(self))
        self._path = path
        self._ballast = ballast
        self._shrink_at = 0.0
        self._warn_at = 0.0

    def make_room(self, connection: sqlite3.Connection | None) -> bool:
        """Find space for a transaction that frees some; False if there is none.

        `close_gap` must follow.
        """
        now = time.monotonic()
        if now >= self._warn_at:
            self._warn_at = now + WARNING_INTERVAL_S
            self.logger.warning(
                "The disk of %s is full. Messages that are stored go on in the space kept for "
                "that; new ones are refused until there is more.",
                self._path,
            )
        # What failed has left its traces in the log. They go once all that is committed has been
        # copied, for which the database itself may have to grow.
        is_shorter = _copy_log(connection, "TRUNCATE")
        if not is_shorter and self._ballast.release():
            is_shorter = _copy_log(connection, "TRUNCATE")
            self._ballast.is_there()
        return self._ballast.lend() or is_shorter

    def close_gap(self, connection: sqlite3.Connection | None) -> None:
        """Make the ballast again, from the space of the log."""
        if not _copy_log(connection, "TRUNCATE") and self._ballast.release():
            _copy_log(connection, "TRUNCATE")
        self._ballast.is_there()

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Keep the log short, and the database now and then, while there is little space."""
        if not self._ballast.is_low():
            return
        if not _copy_log(connection, "PASSIVE") and self._ballast.release():
            self.close_gap(connection)
        self.shrink(connection)

    def shrink(self, connection: sqlite3.Connection | None) -> bool:
        """Make a database small that has become rather empty; tell whether it did."""
        now = time.monotonic()
        if connection is None or now < self._shrink_at:
            return False
        self._shrink_at = now + SHRINK_INTERVAL_S
        if not self._can_shrink(connection):
            return False
        self._ballast.release()
        try:
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("VACUUM")
        except sqlite3.Error:
            self.logger.debug("The database could not be made smaller.", exc_info=True)
            return False
        finally:
            self.close_gap(connection)
        return True

    def _can_shrink(self, connection: sqlite3.Connection) -> bool:
        """Tell whether much of the database is free, and the rest fits beside it once more."""
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        content = (pages - free) * page_bytes
        space = self._ballast.free_bytes() + BALLAST_BYTES
        return bool(free > pages // 4 and content < min(space, MAX_REWRITTEN_BYTES))


def _copy_log(connection: sqlite3.Connection | None, mode: str) -> bool:
    """Copy the log into the database, so that it starts over; False if it does not."""
    if connection is None:
        return False
    try:
        row = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    except sqlite3.Error:
        return False
    is_busy, pages, copied = row
    return not is_busy and bool(pages == copied)
