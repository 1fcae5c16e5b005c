"""Record each attempt to process a message."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ..errors import ActorNotFound
from ..logging import get_logger
from ..middleware.middleware import Middleware
from .arguments import REDACTED, describe_arguments
from .course import attempt_of, begin, course_of, has_begun
from .recorder import Recorder

if TYPE_CHECKING:
    from ..broker import Broker, MessageProxy
    from ..message import Message
    from ..worker import Worker
    from .arguments import Redact
    from .records import Attempt
    from .store import HistoryStore

__all__ = ["DEFAULT_HISTORY_TTL", "DEFAULT_MAX_RECORDS", "History", "history_of"]

#: Milliseconds that attempts are kept: seven days, as dead letters are.
DEFAULT_HISTORY_TTL = 86_400_000 * 7
#: How many attempts are kept at most.
DEFAULT_MAX_RECORDS = 100_000
#: Characters of the encoded arguments that are kept.
DEFAULT_ARGUMENTS_LIMIT = 2_000
#: The message option that tells in whose processing a message was sent.
PARENT_OPTION = "parent_message_id"

#: The id of the message that is being processed in this context.
_current_id: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "dramatiq_history_current", default=None
)


class History(Middleware):
    """Records each attempt to process a message: when, how long, how it ended, and of what.

    Records are written by a thread of their own, many at a time, within a quarter of a second.
    They are no promise: what a killed process had not written is lost, and so is what cannot be
    written while the store is out of reach. Messages never wait for them.

    Args:
        store: Where to keep them; by default where the broker keeps its messages, if that is
            SQLite, Redis, PostgreSQL or memory.
        ttl: Milliseconds to keep attempts; seven days by default.
        max_records: Most attempts to keep; 100,000 by default.
        redact: Names of arguments, and of keys in dictionaries, whose values are not to be
            recorded; or a function that gets actor name, positional and keyword arguments, and
            returns those two as they may be recorded.
        arguments_limit: Characters of the encoded arguments to keep; 0 records none.

    Raises:
        ValueError: If ``ttl`` or ``max_records`` is not positive.
    """

    is_loop_safe = True

    def __init__(
        self,
        *,
        store: HistoryStore | None = None,
        ttl: int = DEFAULT_HISTORY_TTL,
        max_records: int = DEFAULT_MAX_RECORDS,
        redact: Redact = (),
        arguments_limit: int = DEFAULT_ARGUMENTS_LIMIT,
    ) -> None:
        if ttl <= 0 or max_records <= 0:
            raise ValueError("History: ttl and max_records must be positive.")
        self.logger = get_logger(__name__, type(self))
        self.ttl = ttl
        self.max_records = max_records
        self.redact = frozenset(redact) if not callable(redact) else redact
        self.arguments_limit = arguments_limit
        self._store = store
        #: Whether there is nowhere to record anything.
        self._is_off = False
        self._recorder = Recorder(self._write)

    def store_for(self, broker: Broker) -> HistoryStore:
        """Return the store: the one that was given, or the broker's own.

        Raises:
            RuntimeError: If none was given and the broker keeps no history.
        """
        if self._store is None:
            self._store = broker.make_history_store()
        return self._store

    def flush(self) -> bool:
        """Write what this process has recorded so far, now; tell whether that was done."""
        return self._recorder.flush()

    # -- hooks

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Find the store, so that a missing one is noticed when a worker starts."""
        self._recorder.forget_parent()
        self._has_store(broker)

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Note in whose processing a message is sent."""
        current_id = _current_id.get()
        # A retry stays the child of whoever sent it first.
        if current_id is not None and current_id != message.message_id:
            message.options.setdefault(PARENT_OPTION, current_id)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Look at the clock."""
        _current_id.set(message.message_id)
        begin(message)

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        """Look at the clock again."""
        course_of(message).end()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        """Look at the clock again."""
        course = course_of(message)
        course.end()
        course.is_skipped = True

    def before_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Record an attempt after which the message is not dead.

        One that was only moved from a delay queue to its own has not been attempted.
        """
        if has_begun(message):
            self._record(broker, message)

    def before_nack(self, broker: Broker, message: MessageProxy) -> None:
        """Record an attempt after which the message is dead."""
        self._record(broker, message)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Write what is left."""
        self._recorder.stop()

    # -- recording

    def _record(self, broker: Broker, message: MessageProxy) -> None:
        _current_id.set(None)
        if self._has_store(broker):
            arguments = self._arguments_of(broker, message._message)
            self._recorder.put(attempt_of(message, arguments, message.options.get(PARENT_OPTION)))

    def _has_store(self, broker: Broker) -> bool:
        if self._store is None and not self._is_off:
            try:
                self.store_for(broker)
            except RuntimeError as error:
                self._is_off = True
                self.logger.error("Nothing is recorded: %s", error)  # noqa: TRY400 (it says all)
        return not self._is_off

    def _write(self, attempts: list[Attempt]) -> None:
        assert self._store is not None  # noqa: S101 (nothing is recorded before)
        self._store.add(attempts, ttl=self.ttl, max_records=self.max_records)

    def _arguments_of(self, broker: Broker, message: Message[Any]) -> str:
        try:
            function = broker.get_actor(message.actor_name).fn
        except ActorNotFound:
            function = None
        try:
            return describe_arguments(
                message.actor_name,
                function,
                message.args,
                message.kwargs,
                redact=self.redact,
                limit=self.arguments_limit,
            )
        except Exception:
            # Never the arguments as they are: that is what was to be prevented.
            self.logger.warning(
                "The arguments of message %s are not recorded.", message, exc_info=True
            )
            return REDACTED


def history_of(broker: Broker) -> HistoryStore:
    """Return the store of a broker's `History` middleware; see `Broker.history`.

    Raises:
        RuntimeError: If there is no such middleware.
    """
    for middleware in broker.middleware:
        if isinstance(middleware, History):
            return middleware.store_for(broker)
    raise RuntimeError(
        "The broker keeps no history. Have it recorded, before actors are declared: "
        "broker.add_middleware(dramatiq.history.History())."
    )
