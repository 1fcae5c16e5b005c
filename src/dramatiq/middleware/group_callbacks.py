"""Send messages when all members of a group have succeeded."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..common import getenv_int
from ..logging import get_logger
from ..message import Message
from ..rate_limits import Barrier
from ..threading import _task_target
from .middleware import Middleware

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy
    from ..rate_limits import RateLimiterBackend

__all__ = ["GroupCallbacks"]

#: Environment variable that overrides how long barriers live.
BARRIER_TTL_VARIABLE = "dramatiq_group_callback_barrier_ttl"


class GroupCallbacks(Middleware):
    """Counts the members of groups that succeeded, and enqueues the callbacks after the last.

    A member that fails for good or is skipped never counts, so the callbacks are not sent then.
    With a backend that knows members apart, one that is delivered twice counts once.

    Args:
        rate_limiter_backend: Where the counts are kept; all workers must share it.
        barrier_ttl: Milliseconds a group may take between two members; a day by default.
    """

    is_loop_safe = True

    def __init__(
        self, rate_limiter_backend: RateLimiterBackend, *, barrier_ttl: int = 86_400_000
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.rate_limiter_backend = rate_limiter_backend
        self.barrier_ttl = barrier_ttl
        override = getenv_int(BARRIER_TTL_VARIABLE)
        if override is not None:
            warnings.warn(
                f"The environment variable {BARRIER_TTL_VARIABLE} will not be read in 3.0.0. "
                "Pass barrier_ttl to GroupCallbacks instead.",
                FutureWarning,
                stacklevel=2,
            )
            self.barrier_ttl = override

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Count a member in; if it is the last, enqueue the callbacks."""
        if exception is not None or getattr(result, "_is_composed", False):
            return  # or what takes the member's place is counted when that is done
        barrier_key = message.options.get("group_completion_uuid")
        callbacks = message.options.get("group_completion_callbacks")
        if not barrier_key or not callbacks:
            return
        if _task_target.get() is None:
            self._arrive(broker, message, barrier_key, callbacks)
        else:
            # The count may be behind a network: not on an event loop.
            broker.follow_ups(message).deferred.append(
                lambda: self._arrive(broker, message, barrier_key, callbacks)
            )

    def _arrive(
        self,
        broker: Broker,
        message: MessageProxy,
        barrier_key: str,
        callbacks: list[dict[str, Any]],
    ) -> None:
        # A message that is in its group more than once has a name for each of its places.
        member = message.options.get("group_completion_member", message.message_id)
        with broker.follow_ups(message) as follow_ups:
            # Who is called back may read this member's result, and the callback may be stored
            # with the settlement of another member: the result must be there before the count.
            for store, operation in follow_ups.operations:
                store.write(operation)
            follow_ups.operations.clear()
            if self.count_in(barrier_key, member):
                broker.enqueue_many([Message(**callback) for callback in callbacks])

    def count_in(self, barrier_key: str, member: str) -> bool:
        """Count a member in; tell whether all have arrived."""
        barrier = Barrier(self.rate_limiter_backend, barrier_key, ttl=self.barrier_ttl)
        return barrier.arrive(member)
