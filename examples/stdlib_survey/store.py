"""The application's own data: what is to be surveyed, what was found, and the report.

Every write may be repeated without harm, because every message may be delivered twice: a finding
overwrites the same finding of the same file. Each call opens the file anew, so that any thread of
any process may call anything.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path, PurePosixPath

    from .measure import Measurement
    from .report import Summary

__all__ = ["Store"]

#: Seconds to wait for another process that is writing.
BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS survey (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    -- A file is done when it has a measurement or an error.
    CREATE TABLE IF NOT EXISTS files (
        path TEXT PRIMARY KEY, package TEXT NOT NULL,
        measurement TEXT, error TEXT, retries INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS files_of_package ON files (package);
    CREATE TABLE IF NOT EXISTS packages (package TEXT PRIMARY KEY, summary TEXT NOT NULL);
"""
_IS_DONE = "(measurement IS NOT NULL OR error IS NOT NULL)"


class Store:
    """The SQLite file of one survey. Thread-safe.

    Args:
        path: The file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S)
        # A crash of any process loses nothing; after a loss of power, files are measured again.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection, connection:
            yield connection

    # -- the survey as a whole

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction() as connection:
            for table in ("survey", "files", "packages"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 (the names above)

    def plan(self, title: str, root: Path, paths: Iterable[PurePosixPath]) -> None:
        """Note what is to be surveyed: all of it or, when killed meanwhile, nothing."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO files (path, package) VALUES (?, ?)",
                [(str(path), ".".join(path.parts[:-1]) or "(top level)") for path in paths],
            )
            connection.executemany(
                "INSERT INTO survey VALUES (?, ?)", [("title", title), ("root", str(root))]
            )

    def get(self, name: str) -> str | None:
        """Return one of ``title``, ``root``, ``report`` and ``finished``, None if it is not set."""
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM survey WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        """Set one of them."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO survey VALUES (?, ?)", (name, value))

    # -- files

    def record(self, path: str, measurement: Measurement, *, retries: int) -> None:
        """Note what a file consists of; one that is not planned is ignored."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE files SET measurement = ?, error = NULL, retries = ? WHERE path = ?",
                (json.dumps(measurement), retries, path),
            )

    def record_failure(self, path: str, error: str, *, retries: int) -> None:
        """Note why a file could not be measured."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE files SET measurement = NULL, error = ?, retries = ? WHERE path = ?",
                (error, retries, path),
            )

    def count_files(self) -> tuple[int, int]:
        """Return how many files are done, and how many there are."""
        with self._transaction() as connection:
            done, total = connection.execute(
                f"SELECT count(*) FILTER (WHERE {_IS_DONE}), count(*) FROM files"  # noqa: S608 (a constant)
            ).fetchone()
        return done, total

    def count_retries(self) -> int:
        """Return how often files were tried again."""
        with self._transaction() as connection:
            (retries,) = connection.execute("SELECT total(retries) FROM files").fetchone()
        return int(retries)

    def missing_files(self) -> list[str]:
        """Return the files that are not done."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT path FROM files WHERE NOT {_IS_DONE} ORDER BY path"  # noqa: S608 (a constant)
            ).fetchall()
        return [path for (path,) in rows]

    def measurements(self, package: str) -> dict[str, Measurement]:
        """Return what the files of a package consist of."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT path, measurement FROM files "
                "WHERE package = ? AND measurement IS NOT NULL ORDER BY path",
                (package,),
            ).fetchall()
        return {path: json.loads(measurement) for path, measurement in rows}

    def failures(self) -> dict[str, str]:
        """Return, for each file that could not be measured, why."""
        with self._transaction() as connection:
            return dict(connection.execute("SELECT path, error FROM files WHERE error IS NOT NULL"))

    # -- packages

    def packages(self) -> list[str]:
        """Return the names of all packages."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT DISTINCT package FROM files ORDER BY package")
            return [package for (package,) in rows]

    def save_summary(self, summary: Summary) -> None:
        """Note what is to be known about a package."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO packages VALUES (?, ?)",
                (summary["package"], json.dumps(summary)),
            )

    def summaries(self) -> list[Summary]:
        """Return what is known about all packages."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT summary FROM packages ORDER BY package").fetchall()
        return [json.loads(summary) for (summary,) in rows]

    def count_summaries(self) -> int:
        """Return how many packages are summarised."""
        with self._transaction() as connection:
            return int(connection.execute("SELECT count(*) FROM packages").fetchone()[0])
