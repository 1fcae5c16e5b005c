"""The values of the history: what is recorded, what is asked, and what is answered. All plain."""

from __future__ import annotations

import dataclasses
import enum

__all__ = [
    "ActorFigures",
    "Attempt",
    "AttemptOutcome",
    "FailureGroup",
    "HistoryPage",
    "HistorySelection",
    "MinuteCounts",
]


class AttemptOutcome(enum.Enum):
    """How one attempt to process a message ended."""

    #: The actor returned.
    DONE = "done"
    #: Given up: the message is a dead letter.
    FAILED = "failed"
    #: The actor raised, and the message is to run again.
    RETRIED = "retried"
    #: A middleware or the actor skipped it.
    SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to process a message. Moments are UNIX epoch milliseconds."""

    message_id: str
    actor_name: str
    queue_name: str
    outcome: AttemptOutcome
    #: Which attempt of its message it was, from 1.
    number: int
    #: When the message was sent, the first time.
    sent_at: int
    started_at: int
    ended_at: int
    #: By the monotonic clock, from before the actor until after it.
    duration_ms: float
    #: The arguments as JSON, ``{"args": […], "kwargs": {…}}``, redacted; cut off where too long.
    arguments: str = ""
    #: Name of the exception's class, if it raised one.
    exception: str | None = None
    #: The exception's text; its end is cut off where too long.
    error: str | None = None
    #: Its beginning is cut off where too long.
    traceback: str | None = None
    #: The message in whose processing this one was sent.
    parent_id: str | None = None
    #: The group it belongs to, where the group has completion callbacks.
    group_id: str | None = None
    #: Its place in the store, given by the store: the higher, the later.
    position: int = 0


@dataclasses.dataclass(frozen=True)
class HistorySelection:
    """Which attempts are meant: those to which all that is given here applies."""

    outcome: AttemptOutcome | None = None
    actor_name: str | None = None
    queue_name: str | None = None
    message_id: str | None = None
    #: The children of this message.
    parent_id: str | None = None
    group_id: str | None = None

    def includes(self, attempt: Attempt) -> bool:
        """Tell whether it applies to an attempt."""
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (self.outcome, attempt.outcome),
                (self.actor_name, attempt.actor_name),
                (self.queue_name, attempt.queue_name),
                (self.message_id, attempt.message_id),
                (self.parent_id, attempt.parent_id),
                (self.group_id, attempt.group_id),
            )
        )


@dataclasses.dataclass(frozen=True)
class HistoryPage:
    """Some attempts, the newest first."""

    attempts: tuple[Attempt, ...]
    #: What to ask on with; None at the end. A page may have fewer attempts than were asked for,
    #: even none, and still not be the last: each looks at a bounded number of records.
    cursor: int | None = None


@dataclasses.dataclass(frozen=True)
class FailureGroup:
    """Attempts of one actor that raised exceptions of one class, given up or retried."""

    actor_name: str
    exception: str
    #: How many there were since the first; more than are kept, where that was long ago.
    count: int
    first_seen: int
    last_seen: int
    #: The last of them, at most some seconds old when the next one came.
    sample: Attempt


@dataclasses.dataclass(frozen=True)
class ActorFigures:
    """How the last attempts of one actor went."""

    actor_name: str
    #: How many attempts these figures are made of.
    count: int
    #: How many of them raised: given up or retried.
    raised: int
    #: When the oldest and the newest of them ended; None if there are none.
    since: int | None
    until: int | None
    #: Durations that 50, 95 and 99 of 100 did not exceed, in milliseconds; skipped ones left out.
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @property
    def failure_rate(self) -> float:
        """The share that raised, from 0 to 1."""
        return self.raised / self.count if self.count else 0.0


@dataclasses.dataclass(frozen=True)
class MinuteCounts:
    """How many attempts ended within one minute, by outcome."""

    #: Its beginning, in UNIX epoch milliseconds.
    starts_at: int
    done: int = 0
    failed: int = 0
    retried: int = 0
    skipped: int = 0
