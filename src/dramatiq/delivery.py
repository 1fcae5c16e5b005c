"""One message on its way through a worker: the proxy, what became of it, and what follows from it.

Plain values and one context variable: no thread, no I/O. Nothing is acknowledged before its
consequences are stored; `FollowUps` collects them so that a broker can store both in one step.
"""

from __future__ import annotations

import contextvars
import enum
import warnings
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from .flight_recorder import Record
    from .message import Message
    from .workflows.step import Step

__all__ = ["Envelope", "FollowUps", "MessageProxy", "Outcome", "Settlement", "current_follow_ups"]


class Outcome(enum.Enum):
    """What a consumer is asked to do with a message it handed out."""

    #: Done with it: remove it, and store its follow-ups.
    ACK = "ack"
    #: Failed for good: move it to the dead letters, and store its follow-ups.
    NACK = "nack"
    #: Not run, or its consequences could not be stored: back to its queue, no blame.
    REQUEUE = "requeue"


class Envelope:
    """A message that is ready to be stored: its hooks have run and it is encoded."""

    __slots__ = ("delay", "delivery_id", "eta", "message", "payload", "priority")

    def __init__(
        self,
        message: Message[Any],
        payload: bytes,
        *,
        delivery_id: bytes,
        delay: int | None = None,
        eta: int | None = None,
        priority: int = 0,
    ) -> None:
        self.message = message
        self.payload = payload
        #: New for each logical enqueue, the same when storing it is tried again.
        self.delivery_id = delivery_id
        #: Milliseconds, as the caller gave it.
        self.delay = delay
        #: UNIX epoch milliseconds before which it must not run; None for at once.
        self.eta = eta
        #: Lower comes first.
        self.priority = priority


def _field(name: str) -> property:
    """Return a field of the message as a property of its proxy.

    Anything else of the message is found by `MessageProxy.__getattr__`, which takes ten times as
    long: hooks read these several times per message.
    """

    def replace(proxy: MessageProxy, value: Any) -> None:
        proxy._message = proxy._message._replace(**{name: value})

    return property(attrgetter(f"_message.{name}"), replace)


class MessageProxy:
    """Wraps the message a consumer handed out and keeps what becomes of it.

    Everything that is not set on the proxy is read from the message. Attributes may be set freely:
    middleware keeps state there between hooks.
    """

    failed: bool = False
    _exception: BaseException | None = None
    #: What its consumer needs to settle exactly this delivery.
    _lease: Any = None
    #: The consumer thread it came from.
    _origin: Any = None
    #: Whether its settlement is out of the hands of whoever ran it: nobody may settle it again.
    _is_handed_over: bool = False
    #: What follows from it; see `Broker.follow_ups`.
    _follow_ups: FollowUps | None = None
    #: What its end means for workflows, if anything.
    _step: Step | None = None
    #: Where it is written down that it is running, if anywhere.
    _record: Record | None = None

    queue_name = _field("queue_name")
    actor_name = _field("actor_name")
    options = _field("options")
    message_id = _field("message_id")
    message_timestamp = _field("message_timestamp")

    def __init__(self, message: Message[Any]) -> None:
        self.failed = False
        self._message = message
        self._exception = None

    def stuff_exception(self, exception: BaseException) -> None:
        """Keep the exception that made this message fail."""
        self._exception = exception

    def clear_exception(self) -> None:
        """Forget the exception, so that its traceback keeps nothing alive."""
        self._exception = None

    def fail(self) -> None:
        """Mark the message failed: it is dead-lettered instead of acknowledged."""
        self.failed = True

    def __getattr__(self, name: str) -> Any:
        # Copying and unpickling ask for attributes before there is a message.
        if name == "_message":
            raise AttributeError(name)
        return getattr(self._message, name)

    def __getstate__(self) -> dict[str, Any]:
        # Copied and pickled is what is known of the message; the delivery stays the original's.
        own = ("_lease", "_origin", "_is_handed_over", "_follow_ups", "_record", "_step")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __str__(self) -> str:
        return str(self._message)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._message!r}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MessageProxy):
            other = other._message
        return bool(self._message == other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: object) -> bool:
        warnings.warn(
            "Comparing message proxies is deprecated: they have no order.",
            DeprecationWarning,
            stacklevel=2,
        )
        return True


class Settlement:
    """What became of one message, for its consumer to carry out.

    ``on_settled`` is called once, from the consumer's thread, with whether the broker confirmed;
    False means that the lease was lost and nothing was changed.
    """

    __slots__ = ("message", "on_settled", "outcome", "payload", "reason", "step")

    def __init__(
        self,
        message: MessageProxy,
        outcome: Outcome,
        *,
        reason: str | None = None,
        payload: bytes | None = None,
        on_settled: Callable[[bool], None] | None = None,
    ) -> None:
        self.message = message
        self.outcome = outcome
        #: Why it is dead; kept beside a dead letter.
        self.reason = reason
        #: What a dead letter is to hold: the message with its last options; None keeps it as is.
        self.payload = payload
        self.on_settled = on_settled
        #: What is to be done in workflows before; None if nothing (any more).
        self.step: Step | None = None

    @property
    def envelopes(self) -> list[Envelope]:
        """The messages to store in the same step."""
        follow_ups = self.message._follow_ups
        return [] if follow_ups is None else follow_ups.envelopes

    @property
    def operations(self) -> list[tuple[Any, Any]]:
        """The writes of other parts to be made in the same step, as (store, operation)."""
        follow_ups = self.message._follow_ups
        return [] if follow_ups is None else follow_ups.operations


_collecting: contextvars.ContextVar[FollowUps | None] = contextvars.ContextVar(
    "dramatiq_follow_ups", default=None
)


def current_follow_ups() -> FollowUps | None:
    """Return what collects follow-ups in this context, or None where there is nothing to join."""
    return _collecting.get()


class FollowUps:
    """What follows from one message: collected while its hooks run, stored as it is settled.

    A context manager that may be entered several times. An error inside is kept: the worker must
    not acknowledge a message whose consequences could not be stored.
    """

    __slots__ = ("_token", "collects", "deferred", "envelopes", "error", "operations", "store")

    def __init__(self, store: Any, *, collects: bool) -> None:
        #: The broker that will settle the message.
        self.store = store
        #: Whether that broker stores them with the settlement; else they are enqueued at once.
        self.collects = collects
        self.envelopes: list[Envelope] = []
        self.operations: list[tuple[Any, Any]] = []
        #: Blocking writes to make before the settlement, off the event loop.
        self.deferred: list[Callable[[], None]] = []
        self.error: Exception | None = None
        self._token: contextvars.Token[FollowUps | None] | None = None

    def __enter__(self) -> FollowUps:
        if self.collects:
            self._token = _collecting.set(self)
        return self

    def run_deferred(self) -> None:
        """Make the deferred writes; an error is kept, as one inside the context is."""
        deferred, self.deferred = self.deferred, []
        for write in deferred:
            try:
                write()
            except Exception as error:
                self.error = error

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _collecting.reset(self._token)
            self._token = None
        if isinstance(exception, Exception):
            self.error = exception
