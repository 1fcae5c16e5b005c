"""The versions of the schema: each a file that makes it from the one before.

A file is never changed once it was released. Version 0 stands for "nothing is there".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..failures import SchemaMismatch
from ..statements import Statements, quoted, read_folder

if TYPE_CHECKING:
    import psycopg

__all__ = ["NEWEST", "check", "migrate", "version_of"]

_TEXTS = read_folder(Path(__file__).parent)
#: The names of the files, by version.
_FILES = {int(name.partition("_")[0]): name for name in _TEXTS}
#: The version this library works with.
NEWEST = max(_FILES)
#: The oldest version of the library's schema that can work with the newest one, which is written
#: down beside it: so workers of both can run side by side while a fleet moves on.
COMPATIBLE_FROM = 1


def version_of(cursor: psycopg.Cursor[Any], schema: str) -> tuple[int, int]:
    """Return the version of a schema in the database, and the oldest that can work with it."""
    table = f"{quoted(schema)}.version"
    # Not to_regclass(): once we have waited for whoever makes it, that may not know it yet.
    cursor.execute(
        "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = 'version'", (schema,)
    )
    if cursor.fetchone() is None:
        return 0, 0
    cursor.execute(f"SELECT number, compatible_from FROM {table}".encode())  # noqa: S608 (quoted)
    number, compatible_from = cursor.fetchone() or (0, 0)
    return int(number), int(compatible_from)


def check(version: int, compatible_from: int, schema: str, where: str) -> None:
    """See if this library can work with a schema.

    Raises:
        SchemaMismatch: If it cannot; the text says what to do.
    """
    if version < NEWEST:
        raise SchemaMismatch(
            f"PostgreSQL at {where}: schema {schema!r} has version {version}, and this library "
            f"needs {NEWEST}. Run `dramatiq migrate-schema`; workers of the version before can go "
            "on meanwhile."
        )
    if compatible_from > NEWEST:
        raise SchemaMismatch(
            f"PostgreSQL at {where}: schema {schema!r} has version {version}, and this library "
            f"knows {NEWEST} only. Install the version of dramatiq that the others use."
        )


def migrate(cursor: psycopg.Cursor[Any], schema: str) -> tuple[int, int]:
    """Bring a schema to the newest version; return the versions before and after.

    To be called in a transaction: whoever does it at the same time waits.
    """
    name = quoted(schema)
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"dramatiq:{schema}",))
    # A large table takes its time.
    cursor.execute("SET LOCAL statement_timeout = 0")
    before, _ = version_of(cursor, schema)
    if before >= NEWEST:
        return before, before
    if not before:
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
        if cursor.fetchone() is None:
            # Without IF NOT EXISTS, for which a role needs the right even if it is there.
            cursor.execute(f"CREATE SCHEMA {name}".encode())
        cursor.execute(
            f"CREATE TABLE {name}.version (number integer, compatible_from integer)".encode()
        )
        cursor.execute(f"INSERT INTO {name}.version VALUES (0, 0)".encode())  # noqa: S608 (quoted)
    statements = Statements(_TEXTS, schema)
    for version in range(before + 1, NEWEST + 1):
        # Without arguments and with its default cursor: only then it takes many statements.
        cursor.connection.execute(statements[_FILES[version]])
    cursor.execute(
        f"UPDATE {name}.version SET number = %s, compatible_from = %s".encode(),  # noqa: S608
        (NEWEST, COMPATIBLE_FROM),
    )
    return before, NEWEST
