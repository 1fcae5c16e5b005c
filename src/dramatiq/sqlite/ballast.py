"""A file of nothing beside the database, given up for a moment when the disk is full.

Taking and settling messages frees space in the end, but first needs some: the log grows, then the
database as the log is copied into it. The first happens in one half of the ballast, the second in
the other: a database grows by no more than what the log holds, so that the log can always be
copied. It is then cut off, which makes enough space for the ballast to be made again. Sending
never uses it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ballast"]

#: Bytes kept free: each half is several times what taking and settling a hundred small messages
#: writes.
BALLAST_BYTES = 2 * 1024 * 1024
#: Bytes with which it counts as there: on a full disk it may not get all of them back.
ENOUGH_BYTES = BALLAST_BYTES // 2
#: Free bytes below which the log is copied into the database after each commit: twice what a log
#: grows to otherwise, since copying it may take as much once more.
LOW_BYTES = 32 * 1024 * 1024
#: What the operating system says when there is no space.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class Ballast:
    """The ballast of one database file, shared by its processes. Thread-safe.

    Args:
        path: The database file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}-ballast")
        #: On the monotonic clock. One thread's news may replace another's, which is harmless.
        self._plenty_until = 0.0

    def is_there(self) -> bool:
        """Make sure the ballast is there; False if there is no space for it."""
        size = self._size()
        if size >= BALLAST_BYTES:
            return True
        possible = min(BALLAST_BYTES, size + self.free_bytes())
        if possible < ENOUGH_BYTES:
            return False
        try:
            self._allocate(possible)
        except OSError as error:
            # Where nothing may be written, opening the database says so better than we can here.
            return error.errno not in FULL_ERRNOS or self._size() >= ENOUGH_BYTES
        return True

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _allocate(self, size: int) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not sparse: only blocks that exist can be given back. Without truncating first:
            # several may do this at once.
            try:
                os.posix_fallocate(descriptor, 0, size)
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", None) in FULL_ERRNOS:
                    raise
                os.pwrite(descriptor, b"\0" * size, 0)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lend(self) -> bool:
        """Give one half back, for one transaction; False if there was none to give."""
        size = self._size()
        if size < ENOUGH_BYTES:
            return False
        try:
            os.truncate(self.path, size // 2)
        except OSError:
            return False
        return True

    def release(self) -> bool:
        """Give all its space back; False if there was none to give."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def free_bytes(self) -> int:
        """Return how much may still be written to its disk; very much where that is unknown."""
        try:
            disk = os.statvfs(self.path.parent)
        except (AttributeError, OSError):
            return 1 << 62
        return disk.f_bavail * disk.f_frsize

    def is_low(self) -> bool:
        """Tell whether the disk is nearly full, so that the log must be kept short."""
        return self.free_bytes() < LOW_BYTES
