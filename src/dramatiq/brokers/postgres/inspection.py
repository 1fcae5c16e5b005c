"""Looking into the tables and acting on them: one statement for each question and each step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ...common import q_name
from ...inspection import (
    AUDIT_SIZE,
    BATCH,
    AuditEntry,
    Finding,
    MessageInfo,
    Selection,
    State,
    WorkerInfo,
)
from .._inspection import Matcher, renew
from .._processes import host, is_alive
from .._rows import RowInspection
from .._store import new_delivery_ids
from .diagnosis import diagnose
from .membership import LONG_SILENCE_MS, POOLED_SILENCE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .broker import PostgresBroker

__all__ = ["PostgresInspection"]

#: Seconds that a question about millions of messages may take.
TIMEOUT_S = 60.0


class PostgresInspection(RowInspection):
    """Inspects the tables of a PostgreSQL broker."""

    broker: PostgresBroker

    def _now(self) -> int:
        [(now,)] = self._select("now")
        return int(now)

    def workers(self) -> list[WorkerInfo]:
        """Return the worker processes that are registered in the database."""
        infos = []
        for row in self._select("workers"):
            owner, where, pid, started, started_at, *rest = row
            has_lock, is_locked, silence_ms, beat_at, leased = rest
            if where == host():
                lives = is_alive(pid, started)
            elif has_lock:
                lives = is_locked and silence_ms < LONG_SILENCE_MS
            else:
                lives = silence_ms < POOLED_SILENCE_MS
            infos.append(
                WorkerInfo(
                    str(owner),
                    host=where.partition(" ")[0],
                    pid=pid,
                    started_at=started_at,
                    seen_at=beat_at,
                    is_alive=lives,
                    leased=leased,
                )
            )
        return infos

    def _key_of(self, lease: bytes) -> str:
        return lease.hex()

    def _recorders(self) -> list[tuple[str, str]]:
        return [(str(owner), name) for owner, name in self._select("recorders")]

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the server."""
        return diagnose(self.broker.database)

    def migrate_schema(self) -> tuple[int, int]:
        """Bring the tables to the version of this library; make them if there are none."""
        return self.broker.database.migrate()

    # -- reading

    def _select(self, name: str, **arguments: Any) -> list[Any]:
        return self.broker.database.run(
            lambda cursor: cursor.execute(self.broker.sql[name], arguments).fetchall(),
            in_transaction=False,
            timeout_s=TIMEOUT_S,
        )

    def _split(self, row: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        did, *columns = row
        return did.hex(), columns

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        dids = [did for key in keys if (did := _did(key)) is not None]
        return [
            self._info(row) for row in self._select("read_dead_keys", queue=queue_name, dids=dids)
        ]

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message by its delivery id."""
        did = _did(key)
        rows = [] if did is None else self._select("read_one", queue=q_name(queue_name), did=did)
        return self._info(rows[0]) if rows else None

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the tables hold under a message id, in any state."""
        matches = Matcher(Selection(message_id=message_id))
        found: list[MessageInfo] = []
        for name in ("read_any", "read_any_dead"):
            did = b""
            while rows := self._select(name, did=did, count=BATCH):
                found += filter(matches, map(self._info, rows))
                did = rows[-1][0]
        return found

    # -- the log of what was done

    def note(self, entry: AuditEntry) -> None:
        """Add to the log."""
        self._change("note", **dataclasses.asdict(entry))
        self._change("forget_notes", size=AUDIT_SIZE)

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        return [AuditEntry(*row) for row in self._select("audit", count=limit)]

    # -- acting

    @property
    def _channel(self) -> str:
        return self.broker.channel

    def pause(self, queue_name: str) -> None:
        """Have workers take nothing more from a queue until `resume`."""
        self._change("pause", queue=q_name(queue_name))

    def resume(self, queue_name: str) -> None:
        """Undo `pause`."""
        self._change("resume", queue=q_name(queue_name), channel=self._channel)

    def _change(self, name: str, **arguments: Any) -> int:
        return self.broker.database.run(
            lambda cursor: cursor.execute(self.broker.sql[name], arguments).rowcount,
            in_transaction=False,
            timeout_s=TIMEOUT_S,
        )

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        renewed = [(info, payload) for info in letters if (payload := renew(info)) is not None]
        if not renewed:
            return 0
        [(count, _)] = self._select(
            "requeue_dead",
            queue=queue_name,
            channel=self._channel,
            new=[did for did, _ in zip(new_delivery_ids(), renewed, strict=False)],
            payloads=[payload for _, payload in renewed],
            **_deaths([info for info, _ in renewed]),
        )
        return int(count)

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        return self._change("delete_dead", **_deaths(letters))

    def _purge(self, queue_name: str, state: State) -> int:
        [(now, last)] = self._select("last_seq", queue=queue_name)
        arguments = {"queue": queue_name, "before": now, "last": last, "count": BATCH}
        purged = 0
        while moved := self._change(f"purge_{state.value}", **arguments):
            purged += moved
        return purged


def _deaths(letters: Sequence[MessageInfo]) -> dict[str, Any]:
    """Return what names one death of each message."""
    return {
        "dids": [bytes.fromhex(info.key) for info in letters],
        "died": [info.died_at for info in letters],
    }


def _did(key: str) -> bytes | None:
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None
