"""Store what actors return, and that they failed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ActorNotFound
from ..logging import get_logger
from ..middleware.middleware import Middleware
from ..threading import _task_target
from ..workflows.policies import OPTION

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy
    from ..delivery import FollowUps
    from ..message import Message
    from .backend import ResultBackend

__all__ = ["DEFAULT_RESULT_TTL", "Results"]

#: Milliseconds a result is kept: ten minutes.
DEFAULT_RESULT_TTL = 600_000


class Results(Middleware):
    """Stores the results of actors in a backend.

    A failure is stored once the message is given up; while retries are pending there is no
    result. Both arguments but ``backend`` are options of actors and messages too; the message's
    wins, then the actor's.

    Args:
        backend: Where results are kept.
        store_results: Whether to store the results of actors that do not say so themselves.
        result_ttl: Milliseconds to keep results; ten minutes by default.
    """

    is_loop_safe = True

    def __init__(
        self,
        *,
        backend: ResultBackend,
        store_results: bool = False,
        result_ttl: int | None = None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.backend = backend
        self.store_results = store_results
        self.result_ttl = result_ttl or DEFAULT_RESULT_TTL
        self._told: set[str] = set()

    @property
    def actor_options(self) -> set[str]:
        """The options ``store_results`` and ``result_ttl``."""
        return {"result_ttl", "store_results"}

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Store what the actor returned; nothing if it failed."""
        if exception is not None or getattr(result, "_is_composed", False):
            return  # or it is what takes this message's place that has a result
        store_results, result_ttl = self._settings(broker, message)
        if store_results:
            self._store(broker, message, result, result_ttl)
        elif (
            result is not None
            and message.options.get("pipe_target") is None
            and OPTION not in message.options
        ):
            self.logger.warning(
                "Actor %r returned a value that is not None, but store_results is off for it: "
                "the value has been discarded. Turn the option on, or return nothing.",
                message.actor_name,
            )

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Store None for a message that was skipped, unless it failed."""
        store_results, result_ttl = self._settings(broker, message)
        if store_results and not message.failed:
            self._store(broker, message, None, result_ttl)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Store why the message failed."""
        store_results, result_ttl = self._settings(broker, message)
        if store_results and message.failed:
            exception = message._exception or Exception("unknown")
            self.backend.store_exception(message, exception, result_ttl)  # type: ignore[arg-type]  # as below

    def warn_if_not_stored(self, broker: Broker, message: Message[Any]) -> None:
        """Tell whoever asks for a result that none is stored, as far as this process knows.

        The worker decides, and it may know better: so it is said, and the caller still waits.
        """
        actor = broker.actors.get(message.actor_name)
        if actor is None or message.actor_name in self._told:
            return
        stores = actor.options.get("store_results", self.store_results)
        if message.options.get("store_results", stores):
            return
        self._told.add(message.actor_name)
        self.logger.warning(
            "Actor %r does not store results: there will be none for message %s. Declare it with "
            "store_results=True, or give Results that option.",
            message.actor_name,
            message,
        )

    def ttl_of(self, broker: Broker, message: MessageProxy) -> int | None:
        """Return for how many milliseconds to keep a message's result; None if it is not kept."""
        store_results, result_ttl = self._settings(broker, message)
        return result_ttl if store_results else None

    def _settings(self, broker: Broker, message: MessageProxy) -> tuple[bool, int]:
        """Return whether to store the result, and for how many milliseconds."""
        try:
            options = broker.get_actor(message.actor_name).options
        except ActorNotFound:
            return False, 0
        store_results = options.get("store_results", self.store_results)
        result_ttl = options.get("result_ttl", self.result_ttl)
        return (
            message.options.get("store_results", store_results),
            message.options.get("result_ttl", result_ttl),
        )

    def _store(self, broker: Broker, message: MessageProxy, result: Any, result_ttl: int) -> None:
        """Store now or with the settlement, or later when it would block an event loop."""
        follow_ups = broker.follow_ups(message)
        if _task_target.get() is not None and self.backend.may_block(follow_ups):
            # First of all: what else is deferred may make others read the result.
            follow_ups.deferred.insert(
                0, lambda: self._write(follow_ups, message, result, result_ttl)
            )
        else:
            self._write(follow_ups, message, result, result_ttl)

    def _write(
        self, follow_ups: FollowUps, message: MessageProxy, result: Any, result_ttl: int
    ) -> None:
        with follow_ups:
            try:
                self.backend.store_result(message, result, result_ttl)  # type: ignore[arg-type]  # proxies read like messages
            except Exception as error:
                if self._can_encode(result):
                    raise
                # The message must not be run again for it, and whoever waits must not wait in
                # vain: the error takes the result's place.
                self.logger.exception(
                    "The result of message %s cannot be encoded by %s. Return a value it can "
                    "carry, or give the result backend another encoder.",
                    message,
                    type(self.backend.encoder).__name__,
                )
                self.backend.store_exception(message, error, result_ttl)  # type: ignore[arg-type]  # as above

    def _can_encode(self, result: Any) -> bool:
        try:
            self.backend.encoder.encode(result)
        except Exception:
            return False
        return True
