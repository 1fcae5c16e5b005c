"""Reading the next messages of a queue, so that no bad one stands in the way of the others."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from .statements import load, unpack

__all__ = ["Taken", "select_ready"]


class Taken(NamedTuple):
    """Messages of one transaction, as they are stored."""

    seqs: list[int]
    payloads: list[bytes]


def select_ready(connection: sqlite3.Connection, queue_name: str, count: int) -> Taken | None:
    """Return the next messages that are ready; None if there are none."""
    arguments = {"queue": queue_name, "count": count}
    try:
        seqs, payloads = connection.execute(load("select_ready"), arguments).fetchone()
        if seqs is None:
            return None
        taken = Taken([int(seq) for seq in str(seqs).split(",")], unpack(payloads))
    except (sqlite3.OperationalError, ValueError):
        taken = None
    if taken is not None and len(taken.seqs) == len(taken.payloads):
        return taken
    # One of them is text that we would not have written. Its neighbours must not suffer.
    rows = connection.execute(load("select_ready_apart"), arguments).fetchall()
    return Taken([seq for seq, _ in rows], [payload for _, payload in rows])
