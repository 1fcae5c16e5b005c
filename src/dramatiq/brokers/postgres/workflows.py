"""Workflows in the broker's schema: they go on in one transaction with their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import DecodeError
from ...workflows.stores.postgres import PostgresStore
from .._store import MAX_CRASHES, decode, poison_reason
from .statements import insert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from ...delivery import Envelope
    from ...message import Message
    from .broker import PostgresBroker

__all__ = ["store_for", "tell_of_poison"]


def store_for(broker: PostgresBroker) -> PostgresStore:
    """Return where a broker keeps its workflows."""

    def insert_all(cursor: psycopg.Cursor[Any], envelopes: Sequence[Envelope]) -> None:
        insert(cursor, broker.sql, envelopes, broker.channel)

    return PostgresStore(broker.database, insert_all)


def tell_of_poison(broker: PostgresBroker, delivery_ids: Sequence[bytes]) -> None:
    """Have messages count as failed in their workflows that brought down too many processes.

    Args:
        broker: The broker.
        delivery_ids: Of their dead letters.
    """
    arguments = {"dids": list(delivery_ids)}
    rows = broker.database.run(
        lambda cursor: cursor.execute(broker.sql["read_dead_payloads"], arguments).fetchall(),
        in_transaction=False,
    )
    messages = list(_decodable(payload for (payload,) in rows))
    broker.tell_workflows_of_dead(messages, poison_reason(MAX_CRASHES))


def _decodable(payloads: Iterator[bytes]) -> Iterator[Message[Any]]:
    for payload in payloads:
        try:
            yield decode(payload)
        except DecodeError:
            continue  # it never was part of a workflow
