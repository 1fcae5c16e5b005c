"""A file of nothing beside the database, given up when the disk is full.

Settling messages frees space but needs a little to do so. While the ballast is gone, new messages
are refused, so that the space it made goes to settling alone.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ballast"]

#: Bytes kept free: several times what settling a thousand messages writes.
BALLAST_BYTES = 1024 * 1024
#: Bytes that must be free beyond the ballast before it is made again.
SLACK_BYTES = 256 * 1024
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

    def is_there(self) -> bool:
        """Make sure the ballast is there; False if there is no space for it."""
        try:
            if self.path.stat().st_size >= BALLAST_BYTES:
                return True
        except OSError:
            pass
        if self.free_bytes() < BALLAST_BYTES + SLACK_BYTES:
            return False
        try:
            self._create()
        except OSError as error:
            self.release()
            # Where nothing may be written, opening the database says so better than we can here.
            return error.errno not in FULL_ERRNOS
        return True

    def _create(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Not sparse: only blocks that exist can be given back. Without truncating first:
            # several may do this at once.
            try:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
            except (AttributeError, OSError) as error:
                if getattr(error, "errno", None) in FULL_ERRNOS:
                    raise
                os.pwrite(descriptor, b"\0" * BALLAST_BYTES, 0)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> bool:
        """Give its space back; False if there was none to give."""
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
