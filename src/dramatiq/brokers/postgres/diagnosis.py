"""What is worth knowing about a PostgreSQL server: version, role, settings, dead rows and clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ...inspection import Finding, Level
from .statements import statements_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...postgres import Database

__all__ = ["diagnose", "judge"]

#: The oldest server that the statements are made for.
OLDEST_VERSION = 140_000
#: Share of the connections that may be in use before the next processes may find none.
MANY_CONNECTIONS = 0.8
#: Seconds that a transaction may be open before dead rows pile up behind it.
LONG_TRANSACTION_S = 300
#: Dead rows from which on taking messages gets slow.
MANY_DEAD_ROWS = 1_000_000
#: Milliseconds by which clocks may differ before delays are off.
CLOCK_SKEW_MS = 1_000


def diagnose(database: Database) -> list[Finding]:
    """Return findings about a server.

    Raises:
        BrokerConnectionError: If it cannot be reached.
    """
    statement = statements_of(database.schema)["facts"]

    def operation(cursor: Any) -> tuple[dict[str, Any], float]:
        asked_at = time.time()
        row = cursor.execute(statement).fetchone()
        middle = (asked_at + time.time()) / 2
        names = [column.name for column in cursor.description]
        facts = dict(zip(names, row, strict=True))
        return facts, facts["now"] - middle * 1000

    facts, skew_ms = database.run(operation, in_transaction=False)
    return judge({**facts, "is_pooled": database.is_pooled}, skew_ms)


def judge(facts: Mapping[str, Any], skew_ms: float) -> list[Finding]:
    """Return what follows from the facts of a server.

    Args:
        facts: What ``facts.sql`` asks for, and whether there is a pooler.
        skew_ms: By how many milliseconds the server's clock is ahead of ours.
    """
    return [
        *_version(facts),
        *_role(facts),
        *_durability(facts),
        *_connections(facts),
        *_rows(facts),
        *_clock(skew_ms),
    ]


def _version(facts: Mapping[str, Any]) -> Iterator[Finding]:
    text = f"PostgreSQL {facts['version']}"
    if facts["number"] < OLDEST_VERSION:
        yield Finding(Level.PROBLEM, f"{text} is too old: 14 or newer is needed.")
    else:
        yield Finding(Level.OK, text)


def _role(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["is_standby"]:
        yield Finding(
            Level.PROBLEM,
            "This server is a standby, and standbys cannot be written to. Use the address of the "
            "primary, or name several hosts with target_session_attrs=read-write.",
        )
    if facts["is_pooled"]:
        yield Finding(
            Level.NOTE,
            "There is a pooler between us: workers look for messages every half a second instead "
            "of being told, and dead ones on other machines are noticed after 30 seconds.",
        )


def _durability(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["fsync"] != "on":
        yield Finding(
            Level.PROBLEM,
            "fsync is off: a crash of the machine may destroy the whole database. Set it to on.",
        )
    if facts["synchronous_commit"] == "off":
        yield Finding(
            Level.NOTE,
            "synchronous_commit is off: the last messages before a crash of the server may be "
            "lost, and some of those that had run then may run again.",
        )
    else:
        yield Finding(Level.OK, f"synchronous_commit is {facts['synchronous_commit']}")


def _connections(facts: Mapping[str, Any]) -> Iterator[Finding]:
    used, most = facts["connections"], facts["max_connections"]
    text = f"{used} of {most} connections are in use"
    if used > most * MANY_CONNECTIONS:
        yield Finding(
            Level.PROBLEM,
            f"{text}: workers may find none left. Raise max_connections, or put PgBouncer in front "
            "of the server.",
        )
    else:
        yield Finding(Level.OK, text)


def _rows(facts: Mapping[str, Any]) -> Iterator[Finding]:
    if facts["autovacuum"] != "on":
        yield Finding(
            Level.PROBLEM,
            "autovacuum is off: what has run is never removed, and taking messages gets slower and "
            "slower. Set it to on.",
        )
    elif facts["dead_rows"] > MANY_DEAD_ROWS:
        yield Finding(
            Level.NOTE,
            f"{facts['dead_rows']:,} rows wait to be removed: taking messages may be slow. Is "
            "there a transaction that is not ended, or a replication slot that nobody reads?",
        )
    oldest_s = facts["oldest_transaction_s"]
    if oldest_s > LONG_TRANSACTION_S:
        yield Finding(
            Level.PROBLEM,
            f"A transaction has been open for {oldest_s:,.0f} seconds: meanwhile no row that is "
            "done with can be removed, and taking messages gets slower. Look for it in "
            "pg_stat_activity, by xact_start.",
        )


def _clock(skew_ms: float) -> Iterator[Finding]:
    if abs(skew_ms) > CLOCK_SKEW_MS:
        direction = "ahead of" if skew_ms > 0 else "behind"
        yield Finding(
            Level.PROBLEM,
            f"The server's clock is {abs(skew_ms) / 1000:.1f} s {direction} this machine's: delays "
            "are off by as much. Synchronise the clocks.",
        )
    else:
        yield Finding(Level.OK, "The clocks of server and machine agree")
