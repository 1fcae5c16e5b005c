"""What SQLite's errors mean, and what to do about each."""

from __future__ import annotations

import sqlite3

from ..errors import BrokerConnectionError, ConnectionClosed, ConnectionFailed

__all__ = ["explain", "is_disk_full"]

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
        "malformed",
        ConnectionFailed,
        (
            "it is damaged. Stop the workers, keep a copy, and try the `.recover` command of the "
            "sqlite3 shell"
        ),
    ),
)


def explain(error: Exception, path: str) -> BrokerConnectionError:
    """Return the error to raise for one of SQLite's, or of the operating system's."""
    text = str(error).lower()
    for fragment, error_class, meaning in _EXPLANATIONS:
        if fragment in text:
            return error_class(f"SQLite database {path}: {meaning}. ({error})")
    return ConnectionClosed(f"SQLite database {path}: {error}")


def is_disk_full(error: BaseException) -> bool:
    """Tell whether there is no space left."""
    return isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error).lower()
