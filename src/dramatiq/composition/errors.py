"""How the failure of a workflow is told to whoever asks for its result."""

from __future__ import annotations

from typing import Any

from ..results.errors import ResultFailure

__all__ = ["WorkflowFailed"]


class WorkflowFailed(ResultFailure):
    """Raised when a workflow, or the part of it that was asked for, failed or was cancelled.

    Attributes:
        message_id: The message that failed; None if the workflow was cancelled.
        actor_name: Its actor.
    """

    def __init__(self, error: dict[str, Any] | None, flow: str) -> None:
        if error is None:
            super().__init__(f"Workflow {flow} was cancelled.")
        else:
            from ..workflows.errors import describe

            super().__init__(describe(error), error["type"], error["message"])
        self.message_id = None if error is None else error["message_id"]
        self.actor_name = None if error is None else error["actor"]
