"""A file of nothing beside the database, given up when the disk is full.

Settling messages frees space but needs a little to do so. While the ballast is gone, new messages
are refused, so that the space it made goes to settling alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ballast"]

#: Bytes kept free: several times what settling a thousand messages writes.
BALLAST_BYTES = 1024 * 1024


class Ballast:
    """The ballast of one database file, shared by its processes.

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
        try:
            # Written, not left sparse: only blocks that exist can be given back.
            with self.path.open("wb") as file:
                file.write(b"\0" * BALLAST_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give its space back; False if there was none to give."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
