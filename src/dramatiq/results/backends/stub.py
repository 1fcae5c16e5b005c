"""Results in the memory of this process: for tests."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from ..backend import Missing, ResultBackend

if TYPE_CHECKING:
    from ...delivery import FollowUps
    from ...workflows.store import WorkflowStore
    from ..backend import MResult, Result

__all__ = ["StubBackend"]


class StubBackend(ResultBackend):
    """Keeps results in a dictionary that all instances in this process share.

    Results live for whole seconds: a shorter time to live is none.

    Attributes:
        results: Encoded result and expiry, in seconds of the monotonic clock, of each key.
    """

    results: ClassVar[dict[str, tuple[bytes, float]]] = {}
    #: Guards writes and the count of them.
    _mutex: ClassVar[Lock] = Lock()
    _writes_until_sweep: ClassVar[int] = 0

    def may_block(self, follow_ups: FollowUps) -> bool:
        """Never: memory does not wait."""
        return False

    def _get(self, message_key: str) -> MResult:
        data, expires_at_s = self.results.get(message_key, (b"", 0.0))
        if time.monotonic() < expires_at_s:
            return self.encoder.decode(data)
        return Missing

    def _store(self, message_key: str, result: Result, ttl: int) -> None:
        data = self.encoder.encode(result)
        now_s = time.monotonic()
        with self._mutex:
            self.results[message_key] = data, now_s + ttl // 1000
            StubBackend._writes_until_sweep -= 1
            if self._writes_until_sweep <= 0:
                # One sweep per as many writes as there are results keeps the cost per write
                # constant.
                for expired in [key for key, (_, at_s) in self.results.items() if at_s <= now_s]:
                    del self.results[expired]
                StubBackend._writes_until_sweep = max(len(self.results), 100)

    def make_workflow_store(self) -> WorkflowStore:
        """Return where a broker without a store of its own keeps its workflows."""
        from ...workflows.stores.memory import MemoryStore  # few applications have workflows

        return MemoryStore()
