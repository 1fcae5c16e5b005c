"""What SQLite's errors mean, and what to do about each."""

from __future__ import annotations

import errno
import sqlite3

from ..common import NO_DESCRIPTORS, lacks_descriptors
from ..errors import BrokerConnectionError, ConnectionClosed, ConnectionFailed

__all__ = ["explain", "is_about_the_file", "is_disk_full", "is_passing"]

#: For each fragment of SQLite's text: the class to raise, what it means and what helps.
_EXPLANATIONS: tuple[tuple[str, type[BrokerConnectionError], str], ...] = (
    (
        "database is locked",
        ConnectionClosed,
        (
            "another process has held its write lock for too long. Look for one that is stopped, "
            "or that keeps a transaction open on this file"
        ),
    ),
    (
        "database table is locked",
        ConnectionClosed,
        "another connection of this process keeps a table locked",
    ),
    (
        "disk is full",
        ConnectionClosed,
        (
            "the disk is full. Free some space; everything accepted so far is still stored, and "
            "what was refused can be sent again"
        ),
    ),
    (
        "disk i/o error",
        ConnectionClosed,
        "the disk reported an error while reading or writing. Check the disk and its log",
    ),
    (
        "readonly database",
        ConnectionFailed,
        (
            "it cannot be written to. Check the permissions of the file and of its folder, in "
            "which SQLite keeps two files beside it"
        ),
    ),
    (
        "unable to open",
        ConnectionFailed,
        "it cannot be opened. Check that the folder exists and that it may be written to",
    ),
    (
        "not a database",
        ConnectionFailed,
        "it is not an SQLite database. Choose another path, or move that file away",
    ),
    (
        "already exists",
        ConnectionFailed,
        (
            "it belongs to another application, which has tables of the same names. Choose another "
            "path"
        ),
    ),
    (
        "disk image is malformed",
        ConnectionFailed,
        (
            "it is damaged. Stop the workers, keep a copy, and try the `.recover` command of the "
            "sqlite3 shell"
        ),
    ),
)
#: Fragments of what SQLite says, among other reasons, when no descriptor is left.
_FAILED_TO_OPEN = ("unable to open", "disk i/o error", "too many open files")
#: Codes of errors after which the connection is as good as before.
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})


def explain(error: Exception, path: str) -> BrokerConnectionError:
    """Return the error to raise for one of SQLite's, or of the operating system's."""
    text = "disk is full" if is_disk_full(error) else str(error).lower()
    if any(fragment in text for fragment in _FAILED_TO_OPEN) and lacks_descriptors(error):
        return ConnectionFailed(f"SQLite database {path}: {NO_DESCRIPTORS}. ({error})")
    for fragment, error_class, meaning in _EXPLANATIONS:
        if fragment in text:
            return error_class(f"SQLite database {path}: {meaning}. ({error})")
    return ConnectionClosed(f"SQLite database {path}: {error}")


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, means that there is no space left."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            # The second is what opening a file says that has no space for its shared memory.
            if _code(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}:
                return True
        elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        error = error.__cause__
    return False


def is_passing(error: Exception) -> bool:
    """Tell whether the connection that raised ``error`` can still be used."""
    return isinstance(error, sqlite3.Error) and _code(error) & 0xFF in _PASSING


def is_about_the_file(error: Exception) -> bool:
    """Tell trouble with the file from a mistake in one operation."""
    # Mistakes, a value that cannot be bound for example, come as further subclasses.
    return isinstance(error, (sqlite3.OperationalError, OSError)) or type(error) in {
        sqlite3.DatabaseError,
        sqlite3.InternalError,
    }


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's extended result code; 0 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0)
