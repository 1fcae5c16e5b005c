"""The history in the memory of this process: for tests."""

from __future__ import annotations

import dataclasses
from collections import deque
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING

from ...common import current_millis
from ..records import FailureGroup
from ..store import (
    MINUTE_MS,
    MINUTES_KEPT,
    PRUNED_PER_ATTEMPT,
    FailureKey,
    HistoryStore,
    MinuteKey,
    failures_of,
    indexes_of,
    minutes_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..records import Attempt
    from ..store import Index

__all__ = ["StubStore"]


class StubStore(HistoryStore):
    """Keeps attempts in a list. Each instance has its own."""

    def __init__(self) -> None:
        #: Guards everything below.
        self._mutex = Lock()
        self._attempts: deque[Attempt] = deque()
        self._failures: dict[FailureKey, FailureGroup] = {}
        self._minutes: dict[MinuteKey, int] = {}
        self._position = 0

    def add(self, attempts: Sequence[Attempt], *, ttl: int, max_records: int) -> None:
        """Add attempts; see `HistoryStore.add`."""
        now = current_millis()
        with self._mutex:
            for each in attempts:
                self._position += 1
                self._attempts.append(dataclasses.replace(each, position=self._position))
            for minute, count in minutes_of(attempts).items():
                self._minutes[minute] = self._minutes.get(minute, 0) + count
            for key, those in failures_of(attempts).items():
                self._add_failures(key, those)
            self._prune(len(attempts) * PRUNED_PER_ATTEMPT, max_records, now, ttl)

    def _add_failures(self, key: FailureKey, attempts: Sequence[Attempt]) -> None:
        known = self._failures.get(key)
        self._failures[key] = FailureGroup(
            *key,
            count=len(attempts) + (known.count if known else 0),
            first_seen=known.first_seen if known else attempts[0].ended_at,
            last_seen=attempts[-1].ended_at,
            sample=attempts[-1],
        )

    def _prune(self, most: int, max_records: int, now: int, ttl: int) -> None:
        for _ in range(most):
            if not self._attempts:
                break
            if len(self._attempts) <= max_records and self._attempts[0].ended_at >= now - ttl:
                break
            self._attempts.popleft()
        for key in [key for key, each in self._failures.items() if each.last_seen < now - ttl]:
            del self._failures[key]
        oldest_minute = now // MINUTE_MS - MINUTES_KEPT
        for minute in [minute for minute in self._minutes if minute.minute < oldest_minute]:
            del self._minutes[minute]

    def newest(self, index: Index | None, *, before: int | None, limit: int) -> list[Attempt]:
        """Return attempts; see `HistoryStore.newest`."""
        with self._mutex:
            newest_first = list(reversed(self._attempts))
        found = (
            each
            for each in newest_first
            if (before is None or each.position < before)
            and (index is None or index in indexes_of(each))
        )
        return list(islice(found, limit))

    def actors(self) -> list[str]:
        """Return the names of actors; see `HistoryStore.actors`."""
        with self._mutex:
            return sorted({each.actor_name for each in self._attempts})

    def failures(self, *, limit: int = 100) -> list[FailureGroup]:
        """Return groups of failures; see `HistoryStore.failures`."""
        with self._mutex:
            groups = list(self._failures.values())
        groups.sort(key=lambda group: group.last_seen, reverse=True)
        return groups[:limit]

    def counts_since(self, minute: int) -> Iterable[tuple[MinuteKey, int]]:
        """Return counts per minute; see `HistoryStore.counts_since`."""
        with self._mutex:
            return [(key, count) for key, count in self._minutes.items() if key.minute >= minute]

    def clear(self) -> None:
        """Forget everything."""
        with self._mutex:
            self._attempts.clear()
            self._failures.clear()
            self._minutes.clear()
