"""How one attempt goes: kept on the proxy between the hooks, made a record of at its end. Pure."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from ..common import current_millis
from .arguments import limit_end, limit_start
from .records import Attempt, AttemptOutcome

if TYPE_CHECKING:
    from ..broker import MessageProxy

__all__ = ["Course", "attempt_of", "begin", "course_of", "has_begun"]

#: Characters of an error's text and of a traceback that are kept.
ERROR_LIMIT = 500
TRACEBACK_LIMIT = 8_000
#: Frames of a traceback that are looked at.
TRACEBACK_FRAMES = 30

#: The attribute of a proxy that holds how its attempt goes.
_COURSE = "_history_course"


class Course:
    """How the attempt goes that a proxy stands for; kept on the proxy between the hooks."""

    __slots__ = ("duration_ms", "is_skipped", "number", "started_at", "started_at_s")

    def __init__(self, number: int) -> None:
        self.number = number
        self.started_at = current_millis()
        self.started_at_s = time.perf_counter()
        self.duration_ms: float | None = None
        self.is_skipped = False

    def end(self) -> float:
        """Return how long it took; the first call decides."""
        if self.duration_ms is None:
            self.duration_ms = (time.perf_counter() - self.started_at_s) * 1_000
        return self.duration_ms


def begin(message: MessageProxy) -> Course:
    """Note that an attempt begins."""
    retries = message.options.get("retries")
    course = vars(message)[_COURSE] = Course(retries + 1 if isinstance(retries, int) else 1)
    return course


def course_of(message: MessageProxy) -> Course:
    """Return how the attempt of a message goes."""
    course: Course | None = vars(message).get(_COURSE)
    # One that an earlier hook refused, or whose actor is unknown, has begun and ended at once.
    return begin(message) if course is None else course


def has_begun(message: MessageProxy) -> bool:
    """Tell whether an attempt was made of a message."""
    return _COURSE in vars(message)


def attempt_of(message: MessageProxy, arguments: str, parent_id: Any) -> Attempt:
    """Return the record of an attempt that is over.

    Args:
        message: The message, before it is settled.
        arguments: Its arguments as they may be recorded.
        parent_id: What its options say of the message in whose processing it was sent.
    """
    course = course_of(message)
    envelope = message._message
    exception = message._exception
    name, error, lines = (None, None, None) if exception is None else _describe(exception)
    return Attempt(
        message_id=_storable(envelope.message_id),
        actor_name=_storable(envelope.actor_name),
        queue_name=_storable(envelope.queue_name),
        outcome=_outcome_of(message, course),
        number=course.number,
        sent_at=int(envelope.message_timestamp),
        started_at=course.started_at,
        ended_at=current_millis(),
        duration_ms=round(course.end(), 3),
        arguments=arguments,
        exception=name,
        error=error,
        traceback=lines,
        parent_id=_id_in(parent_id),
        group_id=_id_in(envelope.options.get("group_completion_uuid")),
    )


def _outcome_of(message: MessageProxy, course: Course) -> AttemptOutcome:
    if message.failed:
        return AttemptOutcome.FAILED
    if course.is_skipped:
        return AttemptOutcome.SKIPPED
    if message._exception is None:
        return AttemptOutcome.DONE
    # Where nobody retries, a message that failed is acknowledged and gone.
    retries = message.options.get("retries")
    is_retried = isinstance(retries, int) and retries >= course.number
    return AttemptOutcome.RETRIED if is_retried else AttemptOutcome.FAILED


def _storable(text: str) -> str:
    """Return a text that every store takes: what is no character is written as an escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _id_in(value: Any) -> str | None:
    """Return an id out of a message's options, which may hold anything."""
    return _storable(value) if isinstance(value, str) else None


def _describe(exception: BaseException) -> tuple[str, str, str]:
    """Return the name of an exception's class, its text and its traceback."""
    lines = traceback.format_exception(exception, limit=-TRACEBACK_FRAMES)
    try:
        text = str(exception)
    except Exception:  # it is the application's own
        text = "(its text cannot be had)"
    return (
        type(exception).__name__,
        limit_end(text, ERROR_LIMIT),
        limit_start("".join(lines), TRACEBACK_LIMIT),
    )
