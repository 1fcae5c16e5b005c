"""Looking into the file and acting on it: one statement for each question and each step."""

from __future__ import annotations

import dataclasses
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...common import current_millis, q_name
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
from .._rows import FIRST, RowInspection
from .diagnosis import diagnose
from .leases import lock_file_of
from .statements import json_list, load, schema, text_or_blob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .broker import SQLiteBroker

__all__ = ["SQLiteInspection"]


class SQLiteInspection(RowInspection):
    """Inspects the file of an SQLite broker."""

    broker: SQLiteBroker
    no_limit = -1

    def _now(self) -> int:
        return current_millis()

    def workers(self) -> list[WorkerInfo]:
        """Return the worker processes that are registered in the file."""
        lock_file = lock_file_of(self.broker.database.path)
        return [
            WorkerInfo(
                str(owner),
                host=socket.gethostname(),
                pid=pid,
                started_at=started_at,
                is_alive=lock_file.is_alive(slot),
                leased=leased,
            )
            for owner, slot, pid, started_at, leased in self._select("workers")
        ]

    def _recorders(self) -> list[tuple[str, str]]:
        return [(str(worker), name) for worker, name in self._select("recorders_by_worker")]

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the file."""
        return diagnose(self.broker.database)

    # -- reading

    def _select(self, name: str, **arguments: Any) -> list[Any]:
        rows: list[Any] = self.broker.database.read(
            lambda connection: connection.execute(load(name), arguments).fetchall()
        )
        return rows

    def _split(self, row: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        return str(row[0]), row

    def _look_up(self, queue_name: str, keys: Sequence[str]) -> list[MessageInfo]:
        seqs = []
        for key in keys:
            with suppress(ValueError):
                seqs.append(int(key))
        rows = self._select("read_dead_keys", queue=queue_name, seqs=json_list(seqs))
        return [self._info(row) for row in rows]

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message by the number of its row."""
        try:
            rows = self._select("read_one", queue=q_name(queue_name), seq=int(key))
        except (ValueError, OverflowError):
            return None
        return self._info(rows[0]) if rows else None

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the file holds under a message id, in any state."""
        matches = Matcher(Selection(message_id=message_id))
        found: list[MessageInfo] = []
        seq = FIRST
        while rows := self._select("read_any", seq=seq, count=BATCH):
            found += filter(matches, map(self._info, rows))
            seq = rows[-1][0]
        return found

    # -- the log of what was done

    def note(self, entry: AuditEntry) -> None:
        """Add to the log."""
        self._ensure_audit()
        self._change("note", [dataclasses.asdict(entry)])
        self._change("forget_notes", [{"size": AUDIT_SIZE}], frees_space=True)

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries."""
        self._ensure_audit()
        return [AuditEntry(*row) for row in self._select("audit", count=limit)]

    def _ensure_audit(self) -> None:
        # Not with the broker: most files are never acted on through a dashboard.
        self.broker.database.ensure_schema("audit-1", schema("schema_audit"))

    # -- acting

    def pause(self, queue_name: str) -> None:
        """Have workers take nothing more from a queue until `resume`."""
        self._change("pause", [{"queue": q_name(queue_name)}])

    def resume(self, queue_name: str) -> None:
        """Undo `pause`."""
        self._change("resume", [{"queue": q_name(queue_name)}])

    def _change(self, name: str, arguments: Sequence[dict[str, Any]], **options: Any) -> int:
        changed: int = self.broker.database.write(
            lambda connection: connection.executemany(load(name), arguments).rowcount, **options
        )
        return changed

    def _requeue(self, queue_name: str, letters: list[MessageInfo]) -> int:
        now = current_millis()
        arguments = [
            {**_death(info), "now": now, "payload": text_or_blob(payload)}
            for info in letters
            if (payload := renew(info)) is not None
        ]
        return self._change("requeue_dead", arguments) if arguments else 0

    def _delete(self, queue_name: str, letters: list[MessageInfo]) -> int:
        return self._change("delete_dead", [_death(info) for info in letters], frees_space=True)

    def _purge(self, queue_name: str, state: State) -> int:
        [(last,)] = self._select("last_seq")
        arguments = {"queue": queue_name, "count": BATCH, "last": last, "before": self._now()}
        purged = 0
        while moved := self._change(f"purge_{state.value}", [arguments], frees_space=True):
            purged += moved
        return purged


def _death(info: MessageInfo) -> dict[str, Any]:
    """Return what names one death of a message."""
    return {"seq": int(info.key), "died_at": info.died_at}
