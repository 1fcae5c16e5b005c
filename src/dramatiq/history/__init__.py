"""Remember what became of messages, in a store that outlives workers.

`History` is the middleware that records; a `HistoryStore` keeps the records and answers questions
about them, and is found at `dramatiq.Broker.history`.
"""

from __future__ import annotations

from .middleware import DEFAULT_HISTORY_TTL, DEFAULT_MAX_RECORDS, History, history_of
from .records import (
    ActorFigures,
    Attempt,
    AttemptOutcome,
    FailureGroup,
    HistoryPage,
    HistorySelection,
    MinuteCounts,
)
from .store import HistoryStore

__all__ = [
    "DEFAULT_HISTORY_TTL",
    "DEFAULT_MAX_RECORDS",
    "ActorFigures",
    "Attempt",
    "AttemptOutcome",
    "FailureGroup",
    "History",
    "HistoryPage",
    "HistorySelection",
    "HistoryStore",
    "MinuteCounts",
    "history_of",
]
