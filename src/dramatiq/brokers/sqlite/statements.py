"""The SQL of this broker: one operation per file in ``sql/``, and two that are built by size."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...common import current_millis

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from ...delivery import Envelope

__all__ = [
    "READY_SEPARATOR",
    "insert",
    "json_list",
    "load",
    "schema",
    "text_or_blob",
    "unpack",
]

_FOLDER = Path(__file__).with_name("sql")

#: Between payloads in a list of them: JSON escapes control characters, so it is never inside.
READY_SEPARATOR = "\x1e"
#: Rows per INSERT: few sizes, so that each is compiled once; the largest first.
_ROWS_PER_INSERT = (500, 100, 20, 5, 1)


#: Read with the module: later there may be no descriptor left to do it with, and processes that
#: are forked afterwards share them.
_STATEMENTS = {
    entry.name.removesuffix(".sql"): Path(entry).read_text(encoding="utf-8")
    for entry in os.scandir(_FOLDER)
}


def load(name: str) -> str:
    """Return the statement in ``sql/<name>.sql``."""
    return _STATEMENTS[name]


def schema(name: str) -> list[str]:
    """Return the statements of a file that creates tables."""
    return [statement for statement in load(name).split(";\n") if statement.strip()]


def json_list(numbers: Iterable[int]) -> str:
    """Return numbers as the JSON that ``json_each`` takes."""
    return f"[{','.join(map(str, numbers))}]"


def text_or_blob(payload: bytes) -> str | bytes:
    """Return how a payload is stored: as text if it is a JSON object on one line."""
    if payload[:1] != b"{" or b"\x1e" in payload or b"\0" in payload:
        return payload
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        return payload


def unpack(payloads: str) -> list[bytes]:
    """Return the payloads in a list that ``select_ready`` made."""
    return [
        bytes.fromhex(payload[1:]) if payload[:1] == "x" else payload.encode("utf-8")
        for payload in payloads.split(READY_SEPARATOR)
    ]


def insert(connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> None:
    """Store messages; one that is stored already is left alone."""
    now = current_millis()
    start = 0
    for size in _ROWS_PER_INSERT:
        while len(envelopes) - start >= size:
            values: list[object] = []
            for envelope in envelopes[start : start + size]:
                eta = envelope.eta
                is_delayed = eta is not None and eta > now
                values += (
                    envelope.delivery_id,
                    envelope.message.queue_name,
                    1 if is_delayed else 0,
                    envelope.priority,
                    int(eta) if is_delayed and eta is not None else now,
                    text_or_blob(envelope.payload),
                )
            connection.execute(_insert_of(size), values)
            start += size


@cache
def _insert_of(rows: int) -> str:
    return f"{load('insert')} {', '.join(['(?, ?, ?, ?, ?, ?)'] * rows)} ON CONFLICT DO NOTHING"
