"""Who is alive, told by the kernel: one lock file, one byte per worker process.

Each process that consumes holds a POSIX record lock on its byte for life. The kernel drops it on
any death, a fork does not inherit it, and no clock is involved: a process that is stopped, busy
in native code or on a machine whose clock jumps stays alive, and a dead one is seen at once.

Such a lock is lost when the process closes *any* descriptor of the file, so a process opens it
once and keeps it; see fcntl(2), "Advisory record locking".
"""

from __future__ import annotations

import os
import threading
import time

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]

from typing import TYPE_CHECKING

from ...common import NO_DESCRIPTORS, lacks_descriptors
from ...errors import ConnectionFailed

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LockFile", "lock_file_of"]

#: Seconds for which everybody counts as alive after the file was replaced: each process notices
#: that by itself, when it looks for dead workers.
GRACE_S = 5

#: By path; for the life of the process.
_lock_files: dict[Path, LockFile] = {}
_lock_files_lock = threading.Lock()


def lock_file_of(database_path: Path) -> LockFile:
    """Return this process's lock file beside a database."""
    path = database_path.with_name(f"{database_path.name}-lock")
    with _lock_files_lock:
        lock_file = _lock_files.get(path)
        if lock_file is None:
            lock_file = _lock_files[path] = LockFile(path)
        return lock_file


class LockFile:
    """The lock file as one process sees it. Thread-safe.

    Args:
        path: Where it is; created if missing.
    """

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise ConnectionFailed(
                "The SQLite broker needs POSIX record locks, which this platform does not have. "
                "Use a broker with a server here."
            )
        self.path = path
        #: Guards everything below.
        self._lock = threading.Lock()
        self._own: set[int] = set()
        self._trusted_from = 0.0
        self._descriptor = self._open()

    def _open(self) -> int:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            return os.open(self.path, flags, 0o600)
        except OSError as error:
            if lacks_descriptors(error):
                raise ConnectionFailed(f"Lock file {self.path}: {NO_DESCRIPTORS}.") from error
            raise ConnectionFailed(
                f"Lock file {self.path} cannot be opened: {error.strerror}. Check that the folder "
                "exists and that it may be written to."
            ) from error

    def acquire(self) -> int:
        """Lock the first free byte for as long as this process lives; return its number."""
        slot = 0
        with self._lock:
            while slot in self._own or not self._try(slot):
                slot += 1
            self._own.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Unlock one of our bytes."""
        with self._lock:
            self._own.discard(slot)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def is_alive(self, slot: int) -> bool:
        """Tell whether a living process holds that byte, this one included."""
        with self._lock:
            if slot in self._own or time.monotonic() < self._trusted_from:
                return True
            if not self._try(slot):
                return True
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)
            return False

    def follow(self) -> bool:
        """If the file was deleted or replaced under us, lock our bytes in the present one.

        Returns:
            Whether it was.

        Raises:
            ConnectionFailed: If there is none and it cannot be made.
        """
        with self._lock:
            if not self._is_replaced():
                return False
            # The old one stays open: whoever has not noticed yet looks there for us.
            self._descriptor = self._open()
            self._own = {slot for slot in self._own if self._try(slot)}
            self._trusted_from = time.monotonic() + GRACE_S
            return True

    def _is_replaced(self) -> bool:
        try:
            found = self.path.stat()
        except OSError:
            return True
        ours = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)

    def _try(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except OSError:
            return False
        return True


def _forget_after_fork() -> None:
    global _lock_files_lock  # noqa: PLW0603 (the parent's may be locked for ever in the child)
    _lock_files_lock = threading.Lock()
    # The child holds none of these locks; its copy of the descriptors does no harm.
    _lock_files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
