"""Workflows in the memory of this process: for the stub broker, and for tests."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..rules import arrive, exchange
from ..store import WorkflowStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...delivery import Envelope
    from ..store import Arrival, Change, Status

__all__ = ["MemoryStore"]

#: Most workflows that are kept: a test run must not fill the memory. The oldest go first.
MAX_FLOWS = 10_000


class MemoryStore(WorkflowStore):
    """Keeps workflows in dictionaries, until the process ends."""

    def __init__(self) -> None:
        #: Held while anything changes.
        self._lock = threading.RLock()
        self._flows: dict[str, dict[str, bytes]] = {}
        self._listed: dict[str, int] = {}
        self._cancelled: set[str] = set()

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Status]:
        """Record arrivals."""
        with self._lock:
            return [arrive(self._flows.get(each.flow, {}), each) for each in arrivals]

    def change(self, flow: str, change: Change, envelopes: Sequence[Envelope] = ()) -> bool:
        """Make a change; there are no messages here."""
        with self._lock:
            fields = self._flows.get(flow, {})
            is_changed = exchange(fields, change)
            if is_changed:
                self._flows[flow] = fields
            return is_changed

    def read(self, flow: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the values of some fields."""
        with self._lock:
            kept = self._flows.get(flow, {})
            return [kept.get(name) for name in fields]

    def add(self, flow: str, created_at: int) -> None:
        """List a workflow."""
        with self._lock:
            self._listed.setdefault(flow, created_at)
            if len(self._listed) > MAX_FLOWS:
                self.delete(next(iter(self._listed)))

    def flows(self, limit: int, cursor: str | None = None) -> tuple[list[str], str | None]:
        """Return workflows, the newest first."""
        with self._lock:
            names = list(reversed(self._listed))
        start = int(cursor or 0)
        end = start + limit
        return names[start:end], str(end) if end < len(names) else None

    def delete(self, flow: str) -> None:
        """Forget a workflow."""
        with self._lock:
            self._flows.pop(flow, None)
            self._listed.pop(flow, None)
            self._cancelled.discard(flow)

    def cancelled(self) -> set[str]:
        """Return the workflows that are marked cancelled."""
        with self._lock:
            return set(self._cancelled)

    def mark_cancelled(self, flow: str, is_cancelled: bool) -> None:
        """Mark a workflow cancelled, or take that back."""
        with self._lock:
            if is_cancelled:
                self._cancelled.add(flow)
            else:
                self._cancelled.discard(flow)
