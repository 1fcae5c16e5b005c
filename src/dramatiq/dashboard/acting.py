"""What the dashboard does to queues and messages, each with its verb and its line in the log."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING

from ..common import current_millis
from ..inspection import AuditEntry, InspectionNotSupported, Selection, State
from ..logging import get_logger
from .workflows import keeper_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .access import Visitor
    from .desk import Desk

__all__ = ["BULK_LIMIT", "TYPED_FROM", "VERB_OF", "Actions", "Forbidden", "Unconfirmed"]

#: Most dead letters that one request moves, so that it ends in time.
BULK_LIMIT = 10_000
#: More messages than that are acted on only by those who type how many they are.
TYPED_FROM = 1_000
#: What a visitor needs for each action.
VERB_OF = {
    "pause": "pause_queue",
    "resume": "pause_queue",
    "purge": "purge_queue",
    "requeue": "retry",
    "delete": "delete",
    "cancel": "cancel_workflow",
    "retry": "retry_workflow",
}


class Forbidden(Exception):
    """Raised for an action that the visitor has no verb for."""

    def __init__(self, visitor: Visitor, verb: str) -> None:
        super().__init__(f"{visitor.name} may not do this: the verb {verb!r} is not among theirs.")


class Unconfirmed(Exception):
    """Raised where the number of messages has to be typed, and was not."""


class Actions:
    """What one visitor does.

    Args:
        desk: To which broker.
        visitor: Who.
    """

    def __init__(self, desk: Desk, visitor: Visitor) -> None:
        self.logger = get_logger("dramatiq.dashboard", type(self))
        self._desk = desk
        self._visitor = visitor

    def require(self, action: str) -> None:
        """Have an action refused that the visitor may not do.

        Raises:
            Forbidden: If they may not.
        """
        if not self._visitor.may(VERB_OF[action]):
            raise Forbidden(self._visitor, VERB_OF[action])

    def set_paused(self, queue_name: str, *, is_paused: bool) -> None:
        """Pause or resume a queue."""
        action = "pause" if is_paused else "resume"
        self.require(action)
        inspection = self._desk.inspection
        (inspection.pause if is_paused else inspection.resume)(queue_name)
        self._note(action, f"queue {queue_name}")

    def purge(self, queue_name: str, states: Collection[State], confirmation: Confirmation) -> int:
        """Drop the messages of a queue that are in some states."""
        self.require("purge")
        confirmation.check()
        purged = self._desk.inspection.purge(queue_name, states)
        names = ", ".join(state.value for state in State if state in states)
        self._note("purge", f"{names} messages of queue {queue_name}", purged)
        return purged

    def act_on_dead(
        self, action: str, selection: Selection, confirmation: Confirmation | None = None
    ) -> int:
        """Requeue or delete dead letters.

        Args:
            action: ``requeue`` or ``delete``.
            selection: Which. It must be bounded by a moment or by keys.
            confirmation: How many were counted, which are the most that are moved.
        """
        self.require(action)
        if selection.until is None and selection.keys is None:
            raise ValueError("Say until when: what dies from now on is not meant.")
        limit = BULK_LIMIT
        if confirmation is not None:
            confirmation.check()
            limit = min(limit, confirmation.count)
        inspection = self._desk.inspection
        operation = inspection.requeue if action == "requeue" else inspection.delete_dead
        moved = operation(selection, limit=limit)
        self._note(action, describe(selection), moved)
        return moved

    def cancel_workflow(self, workflow_id: str, node_id: str | None) -> bool:
        """Cancel a workflow or a part of it; False if that does not run.

        Raises:
            ValueError: If it has no such part.
        """
        self.require("cancel")
        is_cancelled = keeper_of(self._desk).cancel_workflow(workflow_id, node_id)
        if is_cancelled:
            self._note("cancel", _part(workflow_id, node_id))
        return is_cancelled

    def retry_workflow(self, workflow_id: str, node_id: str | None) -> int | None:
        """Have what failed or was cancelled run again; return how many messages do.

        Returns:
            None if there is no such workflow.

        Raises:
            ValueError: If it has no such part.
        """
        self.require("retry")
        count = keeper_of(self._desk).retry_workflow(workflow_id, node_id)
        if count is not None:
            self._note("retry", _part(workflow_id, node_id), count)
        return count

    def _note(self, verb: str, what: str, count: int | None = None) -> None:
        entry = AuditEntry(current_millis(), self._visitor.name, verb, what, count)
        self.logger.info(
            "%s: %s %s%s",
            entry.who,
            verb,
            what,
            "" if count is None else f" ({count} messages)",
        )
        # Where the store keeps no log, that line has to do.
        with suppress(InspectionNotSupported):
            self._desk.inspection.note(entry)


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """What the visitor was told and typed."""

    #: How many messages they were told.
    count: int
    #: What they typed into the field, if there was one.
    typed: str = ""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Confirmation:
        """Return what a form says.

        Raises:
            Unconfirmed: If it says nothing.
        """
        count = form.get("count", "")
        if not count.isdecimal():
            raise Unconfirmed(
                "How many messages are meant was not said. Go back, and confirm again."
            )
        return cls(int(count), form.get("typed", ""))

    def check(self) -> None:
        """Raise `Unconfirmed` if the number should have been typed and was not."""
        typed = self.typed.replace(",", "").strip()
        if self.count > TYPED_FROM and typed != str(self.count):
            raise Unconfirmed(
                f"Nothing was done: type {self.count} to confirm that you mean so many messages."
            )


def _part(workflow_id: str, node_id: str | None) -> str:
    return f"part {node_id} of workflow {workflow_id}" if node_id else f"workflow {workflow_id}"


def describe(selection: Selection) -> str:
    """Return in words which dead letters are meant."""
    parts = ["dead letters"]
    if selection.keys is not None:
        parts.append(f"that were chosen ({len(selection.keys)})")
    if selection.queue_name is not None:
        parts.append(f"of queue {selection.queue_name}")
    if selection.actor_name is not None:
        parts.append(f"for actor {selection.actor_name}")
    if selection.error_class is not None:
        parts.append(f"with error {selection.error_class}")
    if selection.error is not None:
        parts.append(f"whose reason contains {selection.error!r}")
    if selection.message_id is not None:
        parts.append(f"with id {selection.message_id}")
    return " ".join(parts)
