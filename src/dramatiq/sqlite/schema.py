"""Which tables a file has: a schema is a name for some, noted in the file when they are made."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["create_schema", "has_schema"]


def has_schema(connection: sqlite3.Connection, name: str) -> bool:
    """Tell whether the schema called ``name`` was created."""
    try:
        found = connection.execute("SELECT 1 FROM schemas WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return False
        raise
    return found is not None


def create_schema(connection: sqlite3.Connection, name: str, statements: Sequence[str]) -> None:
    """Create a schema, in the transaction that is open, unless another process just has."""
    connection.execute("CREATE TABLE IF NOT EXISTS schemas (name TEXT PRIMARY KEY)")
    if has_schema(connection, name):
        return
    for statement in statements:
        connection.execute(statement)
    connection.execute("INSERT INTO schemas VALUES (?)", (name,))
