"""What is worth knowing about the file that holds the queues: its place, space and state."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

from ...inspection import Finding, Level
from ...sqlite.place import file_system_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...sqlite import Database

__all__ = ["diagnose"]

#: Bytes of free disk below which a growing backlog may soon find no room.
LITTLE_SPACE = 256 * 1024 * 1024
#: Most bytes of a database whose pages are checked: more would take seconds.
MOST_CHECKED = 256 * 1024 * 1024
#: File systems that live in memory.
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "rootfs"})


def diagnose(database: Database) -> list[Finding]:
    """Return findings about a database.

    Raises:
        BrokerConnectionError: If the file cannot be used.
    """
    findings = [*_versions(database), *_place(database), *_space(database), *_pages(database)]
    if database.synchronous != "FULL":
        findings.append(
            Finding(
                Level.NOTE,
                f"synchronous is {database.synchronous}: the last messages before a loss of power "
                "may be lost. A crash of processes loses none.",
            )
        )
    return findings


def _versions(database: Database) -> Iterator[Finding]:
    mode = database.read(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()[0])
    text = f"SQLite {sqlite3.sqlite_version}, journal mode {mode}"
    if mode == "wal":
        yield Finding(Level.OK, text)
    else:
        yield Finding(
            Level.PROBLEM,
            f"{text}: it should be wal. Does something else open {database.path} and change it?",
        )


def _place(database: Database) -> Iterator[Finding]:
    kind = file_system_of(database.path)
    if kind is None:
        yield Finding(Level.NOTE, f"The file system of {database.path} is unknown.")
    elif kind in MEMORY_FILE_SYSTEMS:
        yield Finding(
            Level.NOTE, f"{database.path} is in memory ({kind}): a restart of the machine loses it."
        )
    else:
        yield Finding(Level.OK, f"{database.path} is on a local disk ({kind})")


def _space(database: Database) -> Iterator[Finding]:
    free = shutil.disk_usage(database.path.parent).free
    text = f"{_bytes(free)} free on the disk, the database has {_bytes(_size(database))}"
    if free < LITTLE_SPACE:
        yield Finding(Level.PROBLEM, f"{text}: new messages are refused when it is full.")
    else:
        yield Finding(Level.OK, text)


def _pages(database: Database) -> Iterator[Finding]:
    if _size(database) > MOST_CHECKED:
        return
    answer = database.read(
        lambda connection: connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    )
    if answer != "ok":
        yield Finding(
            Level.PROBLEM,
            f"{database.path} is damaged ({answer}). Stop the workers, save what can be saved with "
            "sqlite3's .recover, and find out about the disk.",
        )


def _size(database: Database) -> int:
    return database.path.stat().st_size


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1000:,.0f} kB"
