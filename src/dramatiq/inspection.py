"""The one admin door: what one may ask of queues, and do with them, whatever keeps them.

Command line, dashboard, tests and applications use `Broker.inspection` and nothing else. A broker
implements `Inspection` as far as its server allows; where it does not, the method raises
`InspectionNotSupported`, which says why. Values are plain; asking never takes a message.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any

from .errors import BrokerError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .message import Message
    from .workflows.care import Care
    from .workflows.tree import WorkflowInfo, WorkflowNode

__all__ = [
    "AuditEntry",
    "DeadLetter",
    "Finding",
    "Inspection",
    "InspectionNotSupported",
    "Level",
    "MessageInfo",
    "Page",
    "QueueCounts",
    "QueueInfo",
    "RunningInfo",
    "Selection",
    "State",
    "WorkerInfo",
    "error_class_of",
]

#: Most messages that one step of a bulk operation moves, so that nobody else waits for long.
BATCH = 500
#: Most entries that an audit log keeps; the oldest go first.
AUDIT_SIZE = 1000


class InspectionNotSupported(BrokerError):
    """Raised when a broker's server cannot answer or do this; says why, and what can be done."""


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
        from .message import Message  # late: most who count messages decode none

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


class Inspection:
    """Answers and acts for one broker. May be used from any thread.

    Every method raises `BrokerConnectionError` if the store cannot be reached, and
    `InspectionNotSupported` where the broker does not implement it. Queues are named by their
    canonical names, ``default`` and not ``default.DQ``. A queue nobody knows is empty.

    Args:
        broker: The broker.
    """

    def __init__(self, broker: Any) -> None:
        self.broker = broker

    def queues(self, *, count_limit: int | None = None) -> list[QueueInfo]:
        """Return all queues that the store or this process knows, by name.

        Args:
            count_limit: A count that reaches this number may stop there, where counting all would
                take long; None for exact counts. Queues may be missing then that somebody else made
                within the last seconds.
        """
        raise self._unsupported("queues")

    def queue(self, queue_name: str, *, count_limit: int | None = None) -> QueueInfo:
        """Return one queue; see `queues`."""
        raise self._unsupported("queue")

    def messages(
        self,
        state: State,
        selection: Selection = Selection(),
        *,
        limit: int = 100,
        cursor: str | None = None,
        look_at: int | None = None,
    ) -> Page:
        """Return messages of one state: dead letters the newest first, others the next first.

        Args:
            state: The state.
            selection: Which of them.
            limit: Most items of the page.
            cursor: From the page before. Messages that come or go meanwhile may be missed or seen
                twice; nothing else is.
            look_at: About how many stored messages may be looked at, for a selection that few
                match: the page is cut short then, with a cursor to go on from.
        """
        raise self._unsupported("messages")

    def get(self, queue_name: str, key: str) -> MessageInfo | None:
        """Return one message, in whatever state; None if it is not there any more.

        It takes as long with a million messages as with one. Some brokers find dead letters only.

        Args:
            queue_name: Its queue.
            key: Its `MessageInfo.key`.
        """
        raise self._unsupported("get")

    def find(self, message_id: str) -> list[MessageInfo]:
        """Return what the store holds under a message id, in any state.

        It may look through all messages of all queues.
        """
        raise self._unsupported("find")

    def count_dead(self, selection: Selection, *, limit: int | None = None) -> int:
        """Return how many dead letters match, those that cannot be decoded included.

        Args:
            selection: Which of them.
            limit: Where counting may stop.
        """
        raise self._unsupported("count_dead")

    def workers(self) -> list[WorkerInfo]:
        """Return the registered worker processes."""
        raise self._unsupported("workers")

    def running(self) -> list[RunningInfo]:
        """Return what is running now in the worker processes of this machine.

        They write it down where they run; workers on other machines cannot be asked.
        """
        raise self._unsupported("running")

    def pause(self, queue_name: str) -> None:
        """Have workers take nothing more from a queue until `resume`; what they hold they run.

        It is kept in the store, holds for all processes, and takes effect within a second.
        Messages can still be sent. Workers of 2.x take no notice.
        """
        raise self._unsupported("pause")

    def resume(self, queue_name: str) -> None:
        """Undo `pause`. Harmless for a queue that is not paused."""
        raise self._unsupported("resume")

    def requeue(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Put dead letters back at the end of their queues, each in one atomic step.

        A queue's oldest go first. They start over: their counts of retries and crashes and their
        last error are dropped, message id and arguments stay. What cannot be decoded stays dead.

        Args:
            selection: Which of them.
            limit: Most that are moved.
            on_progress: Called after each step with how many have been moved so far; it may wait,
                to keep to a pace.

        Returns:
            How many were moved.
        """
        raise self._unsupported("requeue")

    def delete_dead(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> int:
        """Drop dead letters for good; see `requeue`."""
        raise self._unsupported("delete_dead")

    def purge(self, queue_name: str, states: Collection[State]) -> int:
        """Drop all messages of a queue that are in one of some states, and return how many.

        Raises:
            ValueError: For `State.LEASED`: what a worker holds is not ours to drop.
        """
        raise self._unsupported("purge")

    # -- workflows

    def workflows(
        self, *, limit: int = 100, cursor: str | None = None
    ) -> tuple[list[WorkflowInfo], str | None]:
        """Return workflows, the newest first, and the cursor of those that follow, if any.

        Raises:
            RuntimeError: If the broker has nowhere to keep workflows; this holds for all of these.
        """
        return self._care().infos(limit, cursor)

    def workflow(self, workflow_id: str) -> WorkflowInfo | None:
        """Return the figures of one workflow; None if it is not there (any more)."""
        return self._care().info(workflow_id)

    def workflow_tree(
        self,
        workflow_id: str,
        *,
        node_id: str = "0",
        shown: int = 100,
        limit: int | None = None,
    ) -> WorkflowNode | None:
        """Return what a workflow is made of; None if it is not there (any more).

        Args:
            workflow_id: The workflow.
            node_id: The group or chain to begin with; by default the whole.
            shown: Most children of one group or chain that are returned.
            limit: About how many nodes are returned in all, shared out evenly among groups and
                chains; None for any number.
        """
        return self._care().tree(workflow_id, node_id, shown=shown, limit=limit)

    def cancel_workflow(self, workflow_id: str, node_id: str | None = None) -> bool:
        """Cancel a workflow; False if it is not running.

        What runs ends; what has not started within half a second does not start.

        Args:
            workflow_id: The workflow.
            node_id: A part of it, which counts as failed then; all of it by default.

        Raises:
            ValueError: If it has no such part.
        """
        return self._care().cancel(workflow_id, node_id)

    def retry_workflow(self, workflow_id: str, node_id: str | None = None) -> int | None:
        """Have what failed or was cancelled run again; return how many messages do.

        Dead letters are put back into their queues, what was not run is sent again, and the
        workflow goes on from where it stands. None if it is not there (any more).

        Args:
            workflow_id: The workflow.
            node_id: A part of it; all of it by default.

        Raises:
            ValueError: If it has no such part.
        """
        return self._care().retry(workflow_id, node_id, self._requeue_message)

    def _requeue_message(self, queue_name: str, message_id: str) -> int:
        return self.requeue(Selection(queue_name, message_id=message_id))

    def _care(self) -> Care:
        from .workflows.care import Care  # few who look at queues look at workflows

        return Care(self.broker.workflows)

    def note(self, entry: AuditEntry) -> None:
        """Add to the log of what was done, which is kept in the store and has a bounded size."""
        raise self._unsupported("note")

    def audit(self, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of that log, the newest first."""
        raise self._unsupported("audit")

    def diagnose(self) -> list[Finding]:
        """Return what is worth knowing about the store: its version, settings, space and clock.

        A broker without anything to say returns nothing.
        """
        return []

    def _unsupported(self, what: str) -> InspectionNotSupported:
        return InspectionNotSupported(
            f"{type(self.broker).__name__} does not support {what!r}: its store offers no way to "
            "do this. Use a tool of the store itself."
        )
