"""Carrying out settlements inside a transaction: fenced by owner, with what follows from each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...delivery import Outcome, Settlement
from ...failpoints import hit
from .._store import printable
from .statements import insert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from .broker import PostgresBroker

__all__ = ["Settler"]


class Settler:
    """Settles in the name of one owner.

    Args:
        broker: Whose statements to use.
        owner: The owner.
    """

    def __init__(self, broker: PostgresBroker, owner: int) -> None:
        self._sql = broker.sql
        self._database = broker.database
        self._channel = broker.channel
        self._owner = owner

    def settle(
        self, cursor: psycopg.Cursor[Any], settlements: Sequence[Settlement], ours: Sequence[bool]
    ) -> list[bool]:
        """Settle all at once; tell for each whether it was still the owner's.

        Args:
            cursor: In a transaction.
            settlements: What to do.
            ours: For each, whether the consumer that handed it out still holds it.
        """
        hit("postgres.settle.before_move")
        moved = self._move(cursor, _where(settlements, ours))
        settled = []
        for each, is_ours in zip(settlements, ours, strict=True):
            lease = each.message._lease
            settled.append(is_ours and lease in moved)
            if is_ours:
                moved.discard(lease)  # the second of the same message is too late
        if not all(settled):
            self._remember_done(cursor, _where(settlements, [not each for each in settled]))
        hit("postgres.settle.before_follow_ups")
        self._follow_up(cursor, _where(settlements, settled))
        hit("postgres.settle.before_commit")
        return settled

    def bury(
        self, cursor: psycopg.Cursor[Any], letters: Sequence[tuple[bytes, str, bytes | None]]
    ) -> set[bytes]:
        """Make dead letters: id, reason and payload of each, None for the one it has."""
        arguments = {
            "owner": self._owner,
            "dids": [delivery_id for delivery_id, _, _ in letters],
            "reasons": [reason for _, reason, _ in letters],
            "payloads": [payload for _, _, payload in letters],
        }
        return _ids(cursor.execute(self._sql["nack"], arguments))

    def _move(self, cursor: psycopg.Cursor[Any], settlements: Sequence[Settlement]) -> set[bytes]:
        """Carry out the outcomes; return the ids of those that were still ours."""
        moved: set[bytes] = set()
        for name, outcome in (("ack", Outcome.ACK), ("requeue", Outcome.REQUEUE)):
            dids = [each.message._lease for each in settlements if each.outcome is outcome]
            if dids:
                arguments = {"owner": self._owner, "dids": dids}
                moved |= _ids(cursor.execute(self._sql[name], arguments))
        letters = [
            (each.message._lease, printable(each.reason or "rejected"), each.payload)
            for each in settlements
            if each.outcome is Outcome.NACK
        ]
        if letters:
            moved |= self.bury(cursor, letters)
        self._announce(cursor, settlements)
        return moved

    def _announce(self, cursor: psycopg.Cursor[Any], settlements: Sequence[Settlement]) -> None:
        """Tell others of what goes back to its queue."""
        for queue_name in {
            each.message.queue_name for each in settlements if each.outcome is Outcome.REQUEUE
        }:
            arguments = {"channel": self._channel, "queue": queue_name}
            cursor.execute(self._sql["notify"], arguments)

    def _follow_up(self, cursor: psycopg.Cursor[Any], settlements: Sequence[Settlement]) -> None:
        """Store what follows from messages that were settled."""
        envelopes = []
        for each in settlements:
            if each.message._follow_ups is None:
                continue
            envelopes += each.envelopes
            for database, operation in each.operations:
                assert database is self._database  # noqa: S101 (collected by this broker)
                operation(cursor)
        insert(cursor, self._sql, envelopes, self._channel)

    def _remember_done(
        self, cursor: psycopg.Cursor[Any], settlements: Iterable[Settlement]
    ) -> None:
        """Keep others from running again what was finished under a lost lease.

        Where something follows from it, a retry for example, that was not stored: it must run.
        """
        dids = [
            each.message._lease
            for each in settlements
            if each.outcome is Outcome.ACK and not (each.envelopes or each.operations)
        ]
        if dids:
            cursor.execute(self._sql["remember_done"], {"dids": dids})


def _ids(cursor: psycopg.Cursor[Any]) -> set[bytes]:
    return {delivery_id for (delivery_id,) in cursor.fetchall()}


def _where(settlements: Sequence[Settlement], chosen: Sequence[bool]) -> list[Settlement]:
    return [each for each, is_chosen in zip(settlements, chosen, strict=True) if is_chosen]
