"""Which workflows are cancelled, as a worker knows it: as of half a second ago at most."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ..errors import BrokerConnectionError
from ..threading import _task_target

if TYPE_CHECKING:
    from .nodes import Address
    from .store import WorkflowStore

__all__ = ["Cancellations"]

#: Seconds for which what was read is good: messages that start within them may still run.
FRESH_S = 0.5


class Cancellations:
    """Knows what is cancelled: whole workflows, ``<id>``, and parts of them, ``<id>/<node>``.

    Read at most twice a second, and only while messages of workflows run.

    Args:
        store: Where it is written.
    """

    def __init__(self, store: WorkflowStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._marks: dict[str, list[str]] = {}
        self._read_at_s = float("-inf")

    def include(self, address: Address, *, only_parts: bool = False) -> bool:
        """Tell whether a message is not to be run any more.

        Args:
            address: Its place.
            only_parts: Whether to look at parts of workflows alone.
        """
        if time.monotonic() - self._read_at_s > FRESH_S and self._lock.acquire(blocking=False):
            if _task_target.get() is None:
                self._refresh()
            else:
                # Reading may wait for a server: not on an event loop.
                threading.Thread(target=self._refresh, daemon=True).start()
        nodes = self._marks.get(address.flow)
        if nodes is None:
            return False
        name = f"{address.frame}.{address.child}."
        return any(name.startswith(node) and (node or not only_parts) for node in nodes)

    def _refresh(self) -> None:
        try:
            marks: dict[str, list[str]] = {}
            for mark in self._store.cancelled():
                flow, _, node = mark.partition("/")
                marks.setdefault(flow, []).append(f"{node}." if node else "")
            self._marks = marks
        except BrokerConnectionError:
            # What is known stays good until it can be read again.
            pass
        finally:
            self._read_at_s = time.monotonic()
            self._lock.release()
