"""The SQL of this broker: one operation per file in ``sql/``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...postgres.statements import Statements, read_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope

__all__ = ["channel_of", "insert_arguments", "statements_of"]

_TEXTS = read_folder(Path(__file__).with_name("sql"))


def statements_of(schema: str) -> Statements:
    """Return the statements for a schema, by the names of their files."""
    return Statements(_TEXTS, schema)


def channel_of(schema: str) -> str:
    """Return the name under which it is told that there is something to take."""
    return f"dramatiq:{schema}"


def insert_arguments(envelopes: Sequence[Envelope], channel: str) -> dict[str, Any]:
    """Return the arguments of the statement that stores messages."""
    return {
        "dids": [each.delivery_id for each in envelopes],
        "queues": [each.message.queue_name for each in envelopes],
        "prios": [each.priority for each in envelopes],
        "etas": [each.eta for each in envelopes],
        "payloads": [each.payload for each in envelopes],
        "channel": channel,
    }
