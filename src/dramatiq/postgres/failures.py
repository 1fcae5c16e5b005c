"""What PostgreSQL's errors mean, and what to do about each."""

from __future__ import annotations

try:
    import psycopg
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "Brokers and backends on PostgreSQL need the package psycopg: "
        "pip install 'dramatiq[postgres]'",
        name=error.name,
    ) from None
from psycopg import errors

from ..common import NO_DESCRIPTORS, lacks_descriptors
from ..errors import BrokerConnectionError, BrokerError, ConnectionClosed, ConnectionFailed

__all__ = ["PostgresError", "SchemaMismatch", "explain", "explain_opening"]


class PostgresError(BrokerError):
    """Raised when PostgreSQL refuses a statement for what is in it."""


class SchemaMismatch(ConnectionFailed):
    """Raised when the tables are those of another version of this library."""


#: What may be done about errors that pass, by the beginning of their SQLSTATE, the longest first.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_HINTS = {
    "25006": "it takes no writes: it is a standby, or was there a failover?",
    "25P03": "the transaction was idle for too long; was this process stopped?",
    "26000": "a pooler has given it another session; was the pooler put in front of it just now?",
    "40": "the transaction met another one; it is tried again",
    "42501": (
        "the role may not do this. Let a role that may run `dramatiq migrate-schema`, and grant "
        "this one USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its tables"
    ),
    "42P01": "a table is missing: run `dramatiq migrate-schema`",
    "42703": "a column is missing: run `dramatiq migrate-schema`",
    "3F000": "the schema is missing: run `dramatiq migrate-schema`",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": (
        "it has no connection left. Raise max_connections, start fewer processes, or put PgBouncer "
        "in front of it"
    ),
    "57014": "it took too long; is the server overloaded, or a table locked?",
    "57P01": "it is being shut down",
    "57P02": "it has crashed and is starting again",
    "57P03": "it is starting up or shutting down",
    "58": "it has trouble with its files. Look at its log",
}
#: The beginnings of the SQLSTATEs of errors that may be gone at the next try.
_PASSING = ("08", "25006", "25P0", "26000", "40", "53", "55P03", "57", "58", "XX")
#: The same for those that somebody has to do something about, while workers wait.
_SETTINGS = ("28", "3D", "3F", "42501", "42P01", "42703")
#: What is said about a database that is not there, or a role that may not enter.
_OPENING_HINTS = {
    "28": "it refuses the role or the password",
    "3D": "the database does not exist. Create it, or correct the URL",
}


def _hint(code: str, hints: dict[str, str]) -> str | None:
    for length in (5, 4, 2):
        if code[:length] in hints:
            return hints[code[:length]]
    return None


def explain(error: BaseException, where: str) -> BrokerError:
    """Return the error to raise for one of the client library.

    Args:
        error: What it raised, or an error of the operating system.
        where: The server, without its password.
    """
    if isinstance(error, BrokerError):
        return error
    if not isinstance(error, psycopg.Error):
        return ConnectionClosed(f"PostgreSQL at {where}: {_text(error)}")
    code = error.sqlstate or ""
    hint = _hint(code, {**_HINTS, **_OPENING_HINTS})
    text = f"PostgreSQL at {where}: {hint}. ({_text(error)})" if hint else None
    if code.startswith(_SETTINGS):
        return ConnectionFailed(text or f"PostgreSQL at {where}: {_text(error)}")
    if not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return ConnectionClosed(f"PostgreSQL at {where}: {_text(error)}")
    if code.startswith(_PASSING) or isinstance(error, errors.OperationalError):
        return ConnectionClosed(text or f"PostgreSQL at {where}: {_text(error)}")
    return PostgresError(f"PostgreSQL at {where} refuses a statement: {_text(error)}")


def explain_opening(error: BaseException, where: str) -> BrokerConnectionError:
    """Return the error to raise where a connection could not be opened."""
    if isinstance(error, BrokerConnectionError):
        return error
    if lacks_descriptors(error):
        return ConnectionFailed(
            f"Cannot connect to PostgreSQL at {where}: {NO_DESCRIPTORS}. ({_text(error)})"
        )
    text = _text(error)
    code = (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""
    hint = _hint(code or _guess_code(text), {**_HINTS, **_OPENING_HINTS})
    return ConnectionFailed(
        f"Cannot connect to PostgreSQL at {where}: {hint or 'does it run?'} ({text})"
    )


def _guess_code(text: str) -> str:
    """Return the SQLSTATE that a failed connection does not tell, as far as its text says."""
    for part, code in (
        ("too many clients", "53300"),
        ("remaining connection slots", "53300"),
        ("starting up", "57P03"),
        ("shutting down", "57P03"),
        ("recovery mode", "57P03"),
        ("password authentication failed", "28"),
        ("no pg_hba.conf entry", "28"),
        ("does not exist", "3D" if "database" in text else "28"),
    ):
        if part in text:
            return code
    return ""


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
