"""The SQL of a package: one operation per file, with the schema's name put in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Statements", "quoted", "read_folder"]

#: What stands for the schema in the files.
PLACEHOLDER = "{schema}"


def read_folder(folder: Path) -> dict[str, str]:
    """Return the text of each ``.sql`` file of a folder, by name.

    To be read with the module: later there may be no descriptor left to do it with, and processes
    that are forked afterwards share them.
    """
    return {
        entry.name.removesuffix(".sql"): Path(entry).read_text(encoding="utf-8")
        for entry in os.scandir(folder)
        if entry.name.endswith(".sql")
    }


def quoted(name: str) -> str:
    """Return a name as an SQL identifier."""
    return sql.Identifier(name).as_string(None)


class Statements:
    """The statements of a folder, for one schema.

    Args:
        texts: What `read_folder` returned.
        schema: The schema.
    """

    def __init__(self, texts: Mapping[str, str], schema: str) -> None:
        name = quoted(schema)
        self._statements = {
            key: _without_comments(text).replace(PLACEHOLDER, name).encode()
            for key, text in texts.items()
        }

    def __getitem__(self, name: str) -> bytes:
        return self._statements[name]


def _without_comments(text: str) -> str:
    """Return what the server has to read, and what shows in its log and among its activities."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("--")).strip()
