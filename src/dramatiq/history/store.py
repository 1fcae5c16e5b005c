"""The contract of stores, and what they have in common: paging, figures, counts per minute.

A store adds many attempts in one step and gives the newest ones of an index. The rest is made of
that here, once, so that all stores answer alike and none looks at more records than is said.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from ..common import current_millis
from .records import (
    ActorFigures,
    Attempt,
    AttemptOutcome,
    HistoryPage,
    HistorySelection,
    MinuteCounts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .records import FailureGroup

__all__ = [
    "MINUTES_KEPT",
    "MINUTE_MS",
    "PRUNED_PER_ATTEMPT",
    "FailureKey",
    "HistoryStore",
    "Index",
    "MinuteKey",
    "failures_of",
    "indexes_of",
    "minutes_of",
]

#: Milliseconds of a minute.
MINUTE_MS = 60_000
#: For how many minutes counts are kept: a day.
MINUTES_KEPT = 1_440
#: Most attempts removed for each that is added: enough to catch up with a smaller limit, and few
#: enough not to hold up who settles messages in the same store.
PRUNED_PER_ATTEMPT = 4
#: How many records are read at a time to fill a page.
CHUNK = 200
#: Most records that are looked at for one page.
SCANNED_PER_PAGE = 4_000
#: The rarest first, which is the one to walk along when several are asked for.
INDEXES = ("message_id", "parent_id", "group_id", "outcome", "actor_name", "queue_name")

#: What attempts may be found by: the name of a field and its value.
Index = tuple[str, str]


class MinuteKey(NamedTuple):
    """What is counted apart."""

    #: Number of the minute since the UNIX epoch.
    minute: int
    queue_name: str
    actor_name: str
    outcome: str


class FailureKey(NamedTuple):
    """What failures are grouped by."""

    actor_name: str
    exception: str


class HistoryStore:
    """Keeps attempts, the last so many and for so long, and answers questions about them.

    May be used from any thread. Subclasses implement `add`, `newest`, `actors`, `failures`,
    `counts_since` and `clear`.
    """

    def add(self, attempts: Sequence[Attempt], *, ttl: int, max_records: int) -> None:
        """Add attempts in one step, in their order, and remove some that are too many or too old.

        Args:
            attempts: What to add.
            ttl: Milliseconds to keep attempts.
            max_records: Most attempts to keep, about.

        Raises:
            BrokerConnectionError: If the store cannot be written.
        """
        raise NotImplementedError

    def newest(self, index: Index | None, *, before: int | None, limit: int) -> list[Attempt]:
        """Return attempts of one index, the newest first.

        Args:
            index: One of those that `indexes_of` gives for the attempts; None is all.
            before: Only those whose position is lower.
            limit: How many at most.
        """
        raise NotImplementedError

    def actors(self) -> list[str]:
        """Return the names of the actors of which there are attempts, in order.

        A name may stay until the time to live has passed since the actor's last attempt.
        """
        raise NotImplementedError

    def failures(self, *, limit: int = 100) -> list[FailureGroup]:
        """Return what attempts failed of, grouped by actor and exception, the latest first."""
        raise NotImplementedError

    def counts_since(self, minute: int) -> Iterable[tuple[MinuteKey, int]]:
        """Return how many attempts ended in each minute, from a minute on, in any order."""
        raise NotImplementedError

    def clear(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what this object holds for itself. Harmless when called twice."""

    def attempts(
        self,
        selection: HistorySelection | None = None,
        *,
        limit: int = 50,
        cursor: int | None = None,
    ) -> HistoryPage:
        """Return a page of attempts, the newest first.

        Args:
            selection: Which; all by default.
            limit: How many at most.
            cursor: What the page before gave to ask on with.
        """
        selection = selection or HistorySelection()
        index, is_exact = _walked(selection)
        # One more than asked for tells whether there is another page.
        wanted = min(CHUNK, limit + 1) if is_exact else CHUNK
        found: list[Attempt] = []
        for _ in range(0, SCANNED_PER_PAGE, wanted):
            chunk = self.newest(index, before=cursor, limit=wanted)
            for attempt in chunk:
                if len(found) == limit:
                    return HistoryPage(tuple(found), cursor)
                cursor = attempt.position
                if selection.includes(attempt):
                    found.append(attempt)
            if len(chunk) < wanted:
                return HistoryPage(tuple(found), None)
        return HistoryPage(tuple(found), cursor)

    def of_message(self, message_id: str, *, limit: int = 100) -> list[Attempt]:
        """Return the attempts of one message, in their order; the last ``limit`` of them."""
        newest = self.newest(("message_id", message_id), before=None, limit=limit)
        # Where a broker stores a retry before the attempt it follows from is settled, the retry
        # may be recorded first.
        return sorted(newest, key=lambda each: (each.started_at, each.number, each.position))

    def figures(self, actor_name: str, *, last: int = 1_000) -> ActorFigures:
        """Return how the last attempts of an actor went; at most ``last`` are looked at."""
        attempts = self.newest(("actor_name", actor_name), before=None, limit=last)
        durations = sorted(
            each.duration_ms for each in attempts if each.outcome is not AttemptOutcome.SKIPPED
        )
        return ActorFigures(
            actor_name,
            count=len(attempts),
            raised=sum(each.exception is not None for each in attempts),
            since=attempts[-1].ended_at if attempts else None,
            until=attempts[0].ended_at if attempts else None,
            p50_ms=_percentile(durations, 50),
            p95_ms=_percentile(durations, 95),
            p99_ms=_percentile(durations, 99),
        )

    def throughput(
        self,
        *,
        minutes: int = 60,
        actor_name: str | None = None,
        queue_name: str | None = None,
        now: int | None = None,
    ) -> list[MinuteCounts]:
        """Return counts of the last minutes, the current one included, the oldest first.

        Args:
            minutes: How many; counts are kept for a day.
            actor_name: Only this actor's.
            queue_name: Only this queue's.
            now: UNIX epoch milliseconds; the present by default.
        """
        last = (current_millis() if now is None else now) // MINUTE_MS
        first = last - minutes + 1
        counts: dict[int, dict[str, int]] = {
            minute: defaultdict(int) for minute in range(first, last + 1)
        }
        for key, count in self.counts_since(first):
            if actor_name not in {None, key.actor_name} or queue_name not in {None, key.queue_name}:
                continue
            if key.minute in counts:
                counts[key.minute][key.outcome] += count
        return [MinuteCounts(minute * MINUTE_MS, **each) for minute, each in counts.items()]


def indexes_of(attempt: Attempt) -> list[Index]:
    """Return what an attempt is found by. Those that are done are most: they have no index."""
    values = {
        "message_id": attempt.message_id,
        "parent_id": attempt.parent_id,
        "group_id": attempt.group_id,
        "outcome": None if attempt.outcome is AttemptOutcome.DONE else attempt.outcome.value,
        "actor_name": attempt.actor_name,
        "queue_name": attempt.queue_name,
    }
    return [(name, value) for name in INDEXES if (value := values[name]) is not None]


def minutes_of(attempts: Iterable[Attempt]) -> dict[MinuteKey, int]:
    """Count attempts by what is counted apart."""
    counts: dict[MinuteKey, int] = defaultdict(int)
    for each in attempts:
        key = (each.ended_at // MINUTE_MS, each.queue_name, each.actor_name, each.outcome.value)
        counts[MinuteKey(*key)] += 1
    return counts


def failures_of(attempts: Iterable[Attempt]) -> dict[FailureKey, list[Attempt]]:
    """Group those of the attempts that raised."""
    groups: dict[FailureKey, list[Attempt]] = defaultdict(list)
    for each in attempts:
        if each.exception is not None:
            groups[FailureKey(each.actor_name, each.exception)].append(each)
    return groups


def _walked(selection: HistorySelection) -> tuple[Index | None, bool]:
    """Return the rarest index of a selection, and whether all that is in it is meant."""
    given = [(name, value) for name in INDEXES if (value := getattr(selection, name)) is not None]
    for name, value in given:
        if isinstance(value, AttemptOutcome):
            if value is not AttemptOutcome.DONE:
                return (name, value.value), len(given) == 1
        else:
            return (name, value), len(given) == 1
    return None, not given


def _percentile(ascending: Sequence[float], percent: int) -> float | None:
    """Return the smallest value that ``percent`` of 100 values do not exceed."""
    if not ascending:
        return None
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]
