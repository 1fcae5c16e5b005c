"""What a broker answers and does, as far as its server allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import BrokerError
from .infos import Finding, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..workflows.care import Care
    from ..workflows.tree import WorkflowInfo, WorkflowNode
    from .infos import AuditEntry, MessageInfo, Page, QueueInfo, RunningInfo, State, WorkerInfo

__all__ = ["AUDIT_SIZE", "BATCH", "Inspection", "InspectionNotSupported"]

#: Most messages that one step of a bulk operation moves, so that nobody else waits for long.
BATCH = 500
#: Most entries that an audit log keeps; the oldest go first.
AUDIT_SIZE = 1000
#: Every message.
ALL = Selection()


class InspectionNotSupported(BrokerError):
    """Raised when a broker's server cannot answer or do this; says why, and what can be done."""


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
        selection: Selection = ALL,
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

    def migrate_schema(self) -> tuple[int, int]:
        """Bring the store's tables to the version of this library; make them if there are none.

        Returns:
            Their versions before and after; 0 for none.
        """
        raise InspectionNotSupported(
            f"{type(self.broker).__name__} keeps no tables of a version: there is nothing to do."
        )

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
        from ..workflows.care import Care  # few who look at queues look at workflows

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
