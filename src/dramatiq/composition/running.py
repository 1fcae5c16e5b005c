"""What pipelines and groups have in common that became workflows: their results, from the store."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common import compute_backoff
from ..results.backend import DEFAULT_TIMEOUT
from ..results.errors import ResultMissing, ResultTimeout
from ..threading import waiting_for_others
from ..workflows.reading import State
from .errors import WorkflowFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..broker import Broker
    from ..message import Message
    from ..workflows.reading import Reader
    from .partial import Partial

__all__ = ["Running", "as_fields"]

#: Milliseconds of the first pause between two looks at a workflow, and of the longest.
FIRST_PAUSE = 2
LONGEST_PAUSE = 100


class Running(NamedTuple):
    """A frame of a workflow that was started, or one of its children."""

    broker: Broker
    flow: str
    frame: str
    #: What was asked for, named in errors.
    subject: Any

    @property
    def _reader(self) -> Reader:
        return self.broker.workflows.reader

    def get(self, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return the result of the frame."""
        return self._get(None, block=block, timeout=timeout)

    def get_child(self, index: int, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return the result of a child."""
        return self._get(index, block=block, timeout=timeout)

    def get_children(
        self, count: int, budgets: Iterator[int | None], *, block: bool
    ) -> Iterator[Any]:
        """Yield the results of the children."""
        for index in range(count):
            yield self.get_child(index, block=block, timeout=next(budgets))

    def completed_count(self, count: int, *, in_order: bool) -> int:
        """Return how many children have a result."""
        completed = 0
        for index in range(count):
            try:
                self.get_child(index)
            except ResultMissing:
                if in_order:
                    break
            else:
                completed += 1
        return completed

    def _get(self, index: int | None, *, block: bool, timeout: int | None) -> Any:
        with waiting_for_others() if block else nullcontext():
            return self._wait(index, block=block, timeout=timeout)

    def _wait(self, index: int | None, *, block: bool, timeout: int | None) -> Any:
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        deadline_s = time.monotonic() + timeout / 1000
        attempts = 0
        while True:
            state, value = self._reader.outcome(self.flow, self.frame, index)
            if state is State.DONE:
                return value
            if state is not State.RUNNING:
                raise WorkflowFailed(value, self.flow)
            if not block:
                raise ResultMissing(self.subject)
            attempts, pause = compute_backoff(
                attempts, factor=FIRST_PAUSE, max_backoff=LONGEST_PAUSE
            )
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise ResultTimeout(self.subject)
            time.sleep(min(pause / 1000, left_s))


def as_fields(message: Message[Any] | Partial[Any, Any] | None) -> list[dict[str, Any]]:
    """Return what follows the end of something, for its frame."""
    return [] if message is None else [message.asdict()]
