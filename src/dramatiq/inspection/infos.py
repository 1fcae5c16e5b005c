"""What is asked for and answered: plain values."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from ..errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..message import Message


class State(enum.Enum):
    """Where a stored message is."""

    #: Waiting to be taken.
    READY = "ready"
    #: Waiting for its time.
    DELAYED = "delayed"
    #: Held by a worker: running, or about to.
    LEASED = "leased"
    #: Given up.
    DEAD = "dead"


class Level(enum.Enum):
    """How much a finding matters."""

    #: As it should be.
    OK = "ok"
    #: Worth knowing; may be meant.
    NOTE = "note"
    #: Messages may be lost, or nothing runs, until somebody does something.
    PROBLEM = "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a look at a broker's store or at an application brought to light."""

    level: Level
    #: What is so, and for a problem what to do.
    text: str


def error_class_of(reason: str | None) -> str:
    """Return what kind of failure the reason of a dead letter tells of: what is before its colon.

    >>> error_class_of("TimeoutError: no answer: 30 s")
    'TimeoutError'
    >>> error_class_of(None)
    'rejected'
    """
    return (reason or "").partition(":")[0].strip() or "rejected"


@dataclasses.dataclass(frozen=True)
class QueueCounts:
    """How many messages of a queue are in which state."""

    #: Waiting to be taken.
    ready: int = 0
    #: Waiting for their time.
    delayed: int = 0
    #: Held by workers.
    leased: int = 0
    #: Given up.
    dead: int = 0

    @property
    def unfinished(self) -> int:
        """Messages that are still to be run to an end."""
        return self.ready + self.delayed + self.leased


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, as it is stored."""

    queue_name: str
    #: The encoded message, with the options of its last attempt; raw if it cannot be decoded.
    payload: bytes
    #: Why it is here.
    reason: str
    #: When it came here, in UNIX epoch milliseconds.
    died_at: int


@dataclasses.dataclass(frozen=True)
class QueueInfo:
    """One queue."""

    name: str
    counts: QueueCounts
    #: Whether workers take nothing from it; see `Inspection.pause`.
    is_paused: bool = False
    #: When the message that is next in turn was sent, in UNIX epoch milliseconds; None if nothing
    #: waits or the broker cannot tell. What it has waited is the queue's latency.
    oldest_at: int | None = None


@dataclasses.dataclass(frozen=True)
class MessageInfo:
    """One stored message."""

    #: Names the message in its store, and nothing else; see `Selection.keys`.
    key: str
    #: The canonical name: a delayed message has that of the queue it will run on.
    queue_name: str
    state: State
    #: The encoded message; raw if it cannot be decoded.
    payload: bytes
    #: UNIX epoch milliseconds: when it is due, for a delayed message.
    eta: int | None = None
    #: Who holds it, for a leased message; see `WorkerInfo.worker_id`.
    worker_id: str | None = None
    #: Why it is dead.
    reason: str | None = None
    #: When it died, in UNIX epoch milliseconds.
    died_at: int | None = None
    #: How many worker processes it has brought down.
    crashes: int = 0

    @property
    def error_class(self) -> str:
        """The kind of failure that killed it; see `error_class_of`."""
        return error_class_of(self.reason)

    @property
    def message(self) -> Message[Any] | None:
        """The decoded message; None if it cannot be decoded."""
        from ..message import Message  # late: most who count messages decode none

        try:
            return Message.decode(self.payload)
        except DecodeError:
            return None


@dataclasses.dataclass(frozen=True)
class WorkerInfo:
    """One worker process that is registered."""

    worker_id: str
    #: Where it runs, as far as the store knows.
    host: str | None = None
    pid: int | None = None
    #: UNIX epoch milliseconds.
    started_at: int | None = None
    #: Its last sign of life, in UNIX epoch milliseconds; None where liveness needs no clock.
    seen_at: int | None = None
    is_alive: bool = True
    #: How many messages it holds.
    leased: int = 0


@dataclasses.dataclass(frozen=True)
class RunningInfo:
    """What one thread or slot of a worker process is running."""

    #: Whose; see `WorkerInfo.worker_id`.
    worker_id: str
    #: The number of the thread or slot within its worker, from 0.
    place: int
    #: Both may be cut after some thirty characters.
    actor_name: str
    queue_name: str
    #: The message; see `MessageInfo.key`. None if it is too long to be noted.
    key: str | None
    #: UNIX epoch milliseconds.
    started_at: int


@dataclasses.dataclass(frozen=True)
class AuditEntry:
    """One thing that somebody did to queues or messages."""

    #: UNIX epoch milliseconds.
    at: int
    #: Who did it, as far as is known.
    who: str
    #: What was done: one word, such as ``pause`` or ``requeue``.
    verb: str
    #: To what.
    what: str
    #: To how many messages; None where it was none in particular.
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which messages are meant. What is None does not restrict.

    A bulk operation acts on what matched when it began: `until` is set to that moment if it is
    not given, so that messages that died meanwhile are left alone.
    """

    queue_name: str | None = None
    actor_name: str | None = None
    message_id: str | None = None
    #: Part of the reason of a dead letter, upper and lower case alike.
    error: str | None = None
    #: Exactly the kind of failure of a dead letter; see `error_class_of`.
    error_class: str | None = None
    #: UNIX epoch milliseconds: dead letters that died at this moment or later.
    since: int | None = None
    #: UNIX epoch milliseconds: dead letters that died at this moment or before.
    until: int | None = None
    #: Exactly these, by `MessageInfo.key`; a queue must be named with them.
    keys: Collection[str] | None = None


@dataclasses.dataclass(frozen=True)
class Page:
    """Some messages, and where the next ones are."""

    items: list[MessageInfo]
    #: To be given to `Inspection.messages` for those that follow; None at the end.
    cursor: str | None = None
