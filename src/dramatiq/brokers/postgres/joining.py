"""Sending inside a transaction of the application: a message is there if and only if it commits."""

from __future__ import annotations

import contextvars
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import psycopg

from ...postgres.failures import explain
from .statements import insert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from ...delivery import Envelope
    from .broker import PostgresBroker

__all__ = ["driver_connection", "joined_connection", "joining", "store"]

#: The connections to send on in this context, by broker.
_joined: contextvars.ContextVar[tuple[tuple[PostgresBroker, Any], ...]] = contextvars.ContextVar(
    "dramatiq_postgres_joined", default=()
)


@contextmanager
def joining(broker: PostgresBroker, connection: Any) -> Iterator[None]:
    """Have what is sent inside stored on a connection of the application."""
    driver_connection(connection)  # refuses what cannot be joined before anything is sent
    token = _joined.set(((broker, connection), *_joined.get()))
    try:
        yield
    finally:
        _joined.reset(token)


def joined_connection(broker: PostgresBroker) -> Any:
    """Return the connection on which a broker is to store in this context; None for its own."""
    for each, connection in _joined.get():
        if each is broker:
            # Anew each time: a session of SQLAlchemy has another one after a rollback.
            return driver_connection(connection)
    return None


def driver_connection(connection: Any) -> Any:
    """Return the connection of the client library behind one of psycopg, SQLAlchemy or Django.

    Raises:
        TypeError: If it is none of these.
    """
    found = connection
    if hasattr(found, "ensure_connection"):  # Django's, which connects late
        found.ensure_connection()
        found = found.connection
    elif hasattr(found, "get_bind") and callable(found.connection):  # a session of SQLAlchemy
        found = found.connection()
    pooled = getattr(found, "connection", None)
    found = getattr(pooled, "driver_connection", found)  # SQLAlchemy's
    if not isinstance(found, psycopg.Connection):
        kind = type(connection)
        raise TypeError(
            f"Cannot send on {kind.__module__}.{kind.__qualname__}: give a connection of psycopg "
            "3, a Connection or Session of SQLAlchemy on postgresql+psycopg, or Django's "
            "django.db.connection with psycopg 3."
        )
    return found


def store(
    broker: PostgresBroker, connection: psycopg.Connection[Any], envelopes: Sequence[Envelope]
) -> None:
    """Store messages on a connection of the application, in its transaction if it is in one.

    Raises:
        BrokerError: If that is not possible; the transaction can only be rolled back then.
    """
    is_idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    # All of them or none, whatever there is to join.
    alone = connection.autocommit and is_idle
    frame: AbstractContextManager[Any] = connection.transaction() if alone else nullcontext()
    try:
        with frame, connection.cursor() as cursor:
            insert(cursor, broker.sql, envelopes, broker.channel)
    except psycopg.Error as error:
        raise explain(error, broker.database.where) from error
