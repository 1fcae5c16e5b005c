"""What a worker holds and has not started: ordered by priority, then by arrival.

Consumer threads put, worker threads take. A `SimpleQueue` of tokens, written in C, wakes the
takers; the lock guards the heap and the count and is held for a few instructions only.
"""

from __future__ import annotations

import dataclasses
import heapq
import time
from itertools import count
from queue import Empty, SimpleQueue
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

from ..threading import Interrupt, PriorityQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..broker import MessageProxy

__all__ = ["WorkQueue", "_WorkQueueItem"]


@dataclasses.dataclass(frozen=True, order=True)
class _WorkQueueItem:
    """A message and its place: lower priority first, then the one queued earlier."""

    priority: float
    message: Any = dataclasses.field(compare=False)
    _queued_time: int = dataclasses.field(default_factory=time.monotonic_ns)


class WorkQueue(PriorityQueue[Any]):
    """A priority queue that takes and gives many messages cheaply.

    It has the interface of `queue.PriorityQueue` over `_WorkQueueItem`; `add` and `take` are the
    same without the wrapping. A message counts as unfinished until `task_done`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._heap: list[tuple[float, int, Any]] = []
        self._sequence = count()
        self._lock = Lock()
        self.all_tasks_done = Condition(self._lock)
        self.unfinished_tasks = 0
        #: Called by the thread that finished a message when no other is waiting.
        self.on_idle: Callable[[], None] | None = None

    def add(self, entries: Iterable[tuple[float, MessageProxy]]) -> None:
        """Add messages with their priorities, lower first."""
        added = 0
        with self._lock:
            for priority, message in entries:
                heapq.heappush(self._heap, (priority, next(self._sequence), message))
                added += 1
            self.unfinished_tasks += added
        for _ in range(added):
            self._tokens.put(None)

    def take(self, timeout_s: float | None = None) -> tuple[float, Any]:
        """Remove and return the first (priority, message).

        Raises:
            Empty: If there is none in time, or `wake` was called.
        """
        entry = None
        try:
            self._tokens.get(timeout=timeout_s)
            with self._lock:
                if not self._heap:
                    raise Empty
                entry = self._heap[0]
                heapq.heappop(self._heap)
        except Interrupt:
            self._put_back(entry)
            raise
        return entry[0], entry[2]

    def _put_back(self, entry: tuple[float, int, Any] | None) -> None:
        """Undo a `take` that was interrupted, wherever that hit it. Tokens may be too many."""
        with self._lock:
            if entry is not None and entry not in self._heap:
                heapq.heappush(self._heap, entry)
        self._tokens.put(None)

    def wake(self, takers: int) -> None:
        """Make that many waiting takers return with nothing."""
        for _ in range(takers):
            self._tokens.put(None)

    def drain(self) -> list[Any]:
        """Remove and return every message, in order, and count them as finished."""
        with self._lock:
            entries = [heapq.heappop(self._heap) for _ in range(len(self._heap))]
            self.unfinished_tasks -= len(entries)
            self.all_tasks_done.notify_all()
        return [message for _, _, message in entries]

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add one item."""
        self.add([(item.priority, item.message)])

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Remove and return the first item."""
        priority, message = self.take(timeout if block else 0)
        return _WorkQueueItem(priority, message)

    def qsize(self) -> int:
        """Return how many messages have not been taken."""
        return len(self._heap)

    def empty(self) -> bool:
        """Tell whether there is nothing to take."""
        return not self._heap

    @property
    def unfinished(self) -> int:
        """How many messages are waiting or running."""
        return self.unfinished_tasks

    def task_done(self) -> None:
        """Count one taken message as finished."""
        with self._lock:
            self.unfinished_tasks -= 1
            is_idle = not self._heap
            if self.unfinished_tasks <= 0:
                self.all_tasks_done.notify_all()
        if is_idle and self.on_idle is not None:
            self.on_idle()

    def join(self) -> None:
        """Wait until everything is finished."""
        with self.all_tasks_done:
            self.all_tasks_done.wait_for(lambda: self.unfinished_tasks <= 0)
