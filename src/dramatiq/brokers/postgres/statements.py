"""The SQL of this broker: one operation per file in ``sql/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres.statements import Statements, read_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope

__all__ = ["ROWS_PER_INSERT", "channel_of", "insert", "statements_of"]

#: Most messages stored by one statement, which has to be done within its deadline.
ROWS_PER_INSERT = 1000

_TEXTS = read_folder(Path(__file__).with_name("sql"))


def statements_of(schema: str) -> Statements:
    """Return the statements for a schema, by the names of their files."""
    return Statements(_TEXTS, schema)


def channel_of(schema: str) -> str:
    """Return the name under which it is told that there is something to take."""
    return f"dramatiq:{schema}"


def insert(cursor: Any, sql: Statements, envelopes: Sequence[Envelope], channel: str) -> None:
    """Store messages; one that is stored already is left alone.

    Args:
        cursor: Of the client library, or of another one that takes its way to name arguments; in a
            transaction if there are more than `ROWS_PER_INSERT`.
        sql: The statements.
        envelopes: The messages.
        channel: Where to tell of them.
    """
    for start in range(0, len(envelopes), ROWS_PER_INSERT):
        some = envelopes[start : start + ROWS_PER_INSERT]
        arguments = {
            "dids": [each.delivery_id for each in some],
            "queues": [each.message.queue_name for each in some],
            "prios": [each.priority for each in some],
            "etas": [each.eta for each in some],
            "payloads": [each.payload for each in some],
            "channel": channel,
        }
        cursor.execute(sql["insert"], arguments)
