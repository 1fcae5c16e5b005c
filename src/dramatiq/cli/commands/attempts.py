"""The attempts of one message, from the history, where the application has one recorded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from .units import ago, as_duration, as_moment

if TYPE_CHECKING:
    from ...broker import Broker
    from ...history import Attempt

__all__ = ["attempt_as_json", "attempts_of", "describe_attempts"]


def attempts_of(broker: Broker, message_id: str) -> list[Attempt]:
    """Return the attempts of a message, in their order; none without a history."""
    try:
        history = broker.history
    except RuntimeError:
        return []
    return history.of_message(message_id)


def attempt_as_json(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt as the values that ``--json`` prints; see `dramatiq.history.Attempt`."""
    return {**dataclasses.asdict(attempt), "outcome": attempt.outcome.value}


def describe_attempts(attempts: list[Attempt], now_ms: int) -> list[str]:
    """Return a line for each attempt."""
    return [_describe(attempt, now_ms) for attempt in attempts]


def _describe(attempt: Attempt, now_ms: int) -> str:
    moment = f"{as_moment(attempt.started_at)} ({ago(attempt.started_at, now_ms)})"
    line = f"{attempt.number}. {moment}: {attempt.outcome.value}"
    if attempt.exception is not None:
        line += f" with {attempt.exception}: {attempt.error}"
    return f"{line}, after {as_duration(attempt.duration_ms)}"
