"""Transactions that are carried out again when they met another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import BrokerConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from .database import Database

__all__ = ["run_again"]

T = TypeVar("T")

#: How often a transaction is tried that deadlocks, or cannot be serialized, each time.
TRIES = 5
#: What the SQLSTATEs of such errors begin with.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ROLLED_BACK = "40"


def run_again(database: Database, operation: Callable[[psycopg.Cursor[Any]], T]) -> T:
    """Carry out an operation in a transaction, again if the server rolled it back for another one.

    Args:
        database: Where.
        operation: Gets a cursor. Must do the same when it is called again.

    Raises:
        BrokerConnectionError: If it could not be carried out.
    """
    for _ in range(TRIES - 1):
        try:
            return database.run(operation)
        except BrokerConnectionError as error:
            code = getattr(error.__cause__, "sqlstate", None) or ""
            if not code.startswith(_ROLLED_BACK):
                raise
    return database.run(operation)
