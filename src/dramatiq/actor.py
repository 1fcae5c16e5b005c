"""A function becomes an actor: it can still be called, and it can be sent messages."""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from .asyncio import async_to_sync
from .broker import Broker, get_broker
from .logging import get_logger
from .message import Message, make_message
from .mistakes import Advisor, already_registered

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Self, TypeAlias

    from .composition.partial import Partial

    #: Positional arguments of one call, or its keyword arguments.
    Call: TypeAlias = tuple[Any, ...] | Mapping[str, Any]

__all__ = ["Actor", "ActorDecorator", "actor"]

#: What a queue may be called.
_queue_name_re = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
R2 = TypeVar("R2")
T = TypeVar("T")


class ActorDecorator(Protocol):
    """What `actor` returns when it is called with options: it takes the function."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Actor[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Actor[P, R]: ...


class Actor(Generic[P, R]):
    """A function that workers run when they get a message for it.

    Thread-safe. Made by `actor`; made directly it needs every argument.

    Args:
        fn: The function; a coroutine function is run on an event loop.
        broker: The broker its messages go through.
        actor_name: Its name in messages, unique in the broker.
        queue_name: The queue its messages go to.
        priority: Lower runs first among what a worker holds.
        options: What middleware is to know about it.

    Raises:
        ValueError: If the broker has an actor of that name.
        TypeError: If ``fn`` is an async generator function; of a plain one you are warned.
    """

    #: The coroutine function behind ``fn``, if it is one.
    _coroutine_fn: Callable[..., Coroutine[Any, Any, Any]] | None = None
    #: What ``fn`` was set to, to see whether others replaced it.
    _own_fn: Callable[..., Any] | None = None

    def __init__(
        self,
        fn: Callable[P, Any],
        *,
        broker: Broker,
        actor_name: str,
        queue_name: str,
        priority: int,
        options: dict[str, Any],
    ) -> None:
        if actor_name in broker.actors:
            raise already_registered(actor_name, broker.actors[actor_name], fn)
        _refuse_generators(fn, actor_name)
        self.logger = get_logger(getattr(fn, "__module__", None) or "_", actor_name)
        self.fn: Callable[P, R] = fn
        if _is_async(fn):
            self._coroutine_fn = fn
            self.fn = async_to_sync(fn)
        self._own_fn = self.fn
        self.broker = broker
        self._advisor = Advisor(actor_name, self.logger)
        self.actor_name = actor_name
        self.queue_name = queue_name
        self.priority = priority
        self.options = options
        broker.declare_actor(self)

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """Build a message without sending it, to compose it with others."""
        return self.message_with_options(args=args, kwargs=kwargs)

    def message_with_options(
        self,
        *,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Message[R]:
        """Build a message with options, without sending it.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            options: Options of the message. ``on_success`` and ``on_failure`` take an actor or
                its name.

        Raises:
            TypeError: If one of those two is something else.
        """
        if options and not options.keys() <= self.broker.actor_options:
            self._advisor.look_at_options(options, self.broker.actor_options)
        for name in ("on_failure", "on_success") if options else ():
            callback = options.get(name)
            if isinstance(callback, Actor):
                options[name] = callback.actor_name
            elif callback is not None and not isinstance(callback, str):
                raise TypeError(f"{name} value must be an Actor, not {callback!r}.")
        return make_message(self.queue_name, self.actor_name, tuple(args), kwargs or {}, options)

    def partial(
        self: Callable[Concatenate[T, P2], R2], *args: P2.args, **kwargs: P2.kwargs
    ) -> Partial[T, R2]:
        """Return a message for a pipeline, whose first argument is the result before it.

        Args:
            args: The arguments after the first.
            kwargs: The same, by name.

        Raises:
            TypeError: If they cannot be given by name: the piped result is the last of the
                positional arguments.
        """
        # As a callable, a type checker can tell the first parameter from the others.
        own = cast("Actor[Any, Any]", self)
        named = dict(zip(own._names_after_first(len(args)), args, strict=True))
        if repeated := sorted(named.keys() & kwargs.keys()):
            raise TypeError(f"{own.actor_name}.partial(): {repeated[0]!r} is given twice.")
        message = own.message_with_options(kwargs={**named, **kwargs})
        return cast("Partial[T, R2]", message)

    def _names_after_first(self, count: int) -> list[str]:
        """Return the names of so many parameters after the first."""
        parameters = list(inspect.signature(self._coroutine_fn or self.fn).parameters.values())
        names = [each.name for each in parameters[1:] if each.kind is each.POSITIONAL_OR_KEYWORD]
        if len(names) < count:
            raise TypeError(
                f"{self.actor_name}.partial(): {count} arguments after the first were given, but "
                f"only {len(names)} can be given by name ({', '.join(names) or 'none'})."
            )
        return names[:count]

    def send(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """Send a message; when this returns, the broker has it."""
        return self.send_with_options(args=args, kwargs=kwargs)

    def send_with_options(
        self,
        *,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        delay: timedelta | int | None = None,
        **options: Any,
    ) -> Message[R]:
        """Send a message with options.

        Args:
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            delay: Milliseconds, or a timedelta, before which it must not run. Zero is a delay
                too; None, the default, is not.
            options: Options of the message.

        Raises:
            TypeError: If an argument cannot be encoded; the text names it.
            BrokerError: If the broker cannot take it.
        """
        message = self.message_with_options(args=args, kwargs=kwargs, **options)
        self._look_at(message)
        return self.broker.enqueue(message, delay=_milliseconds(delay))

    def send_many(
        self, calls: Iterable[Call], *, delay: timedelta | int | None = None, **options: Any
    ) -> list[Message[R]]:
        """Send one message per call, in as few round trips as the broker knows how.

        Args:
            calls: For each call a tuple of its positional arguments, or a mapping of its keyword
                arguments.
            delay: As in `send_with_options`, for all of them.
            options: Options of each message.

        Returns:
            The messages, in the order of the calls.

        Raises:
            TypeError: If a call is neither a tuple nor a mapping; nothing has been sent then.
            BrokerError: If the broker cannot take them; some may have been sent.
        """
        messages = [self._message_of_call(call, options) for call in calls]
        for message in messages:
            self._look_at(message)
        return self.broker.enqueue_many(messages, delay=_milliseconds(delay))

    async def send_async(self, *args: P.args, **kwargs: P.kwargs) -> Message[R]:
        """Send a message from a coroutine, without blocking its event loop."""
        message = self.message_with_options(args=args, kwargs=kwargs)
        self._look_at(message)
        return await self.broker.enqueue_async(message)

    def _message_of_call(self, call: Call, options: dict[str, Any]) -> Message[R]:
        if isinstance(call, tuple):
            return self.message_with_options(args=call, **options)
        if isinstance(call, Mapping):
            return self.message_with_options(kwargs=dict(call), **options)
        raise TypeError(
            f"{self.actor_name}.send_many(): a call must be a tuple of positional arguments or a "
            f"mapping of keyword arguments, not {call!r}. For one argument write ({call!r},)."
        )

    def _look_at(self, message: Message[Any]) -> None:
        """Warn of a message that will fail, before it is sent on its own."""
        is_own = self._coroutine_fn is not None and self.fn is self._own_fn
        self._advisor.look_at_arguments(self._coroutine_fn if is_own else self.fn, message)  # type: ignore[arg-type]  # then it is there

    @property
    def coroutine_function(self) -> Callable[..., Coroutine[Any, Any, R]] | None:
        """The coroutine function to await instead of calling this actor, if that is the same.

        None for plain actors, and for those whose function or call was replaced.
        """
        if self.fn is not self._own_fn or type(self).__call__ is not _CALL:
            return None
        return self._coroutine_fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        if not self.logger.isEnabledFor(10):
            return self.fn(*args, **kwargs)
        self.logger.debug("Received args=%r kwargs=%r.", args, kwargs)
        start = time.perf_counter()
        try:
            return self.fn(*args, **kwargs)
        finally:
            duration_ms = (time.perf_counter() - start) * 1000
            self.logger.debug("Completed after %.02fms.", duration_ms)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: whoever unpickles it has imported, or must import, the module that declares it.
        return _find_actor, (self.actor_name,)

    def __copy__(self) -> Self:
        # Like a function: there is one, whichever broker it is declared on.
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __str__(self) -> str:
        return f"Actor({self.actor_name})"

    def __repr__(self) -> str:
        return f"Actor({self.fn!r}, queue_name={self.queue_name!r}, actor_name={self.actor_name!r})"


#: Our own, to notice when a subclass or a tool has replaced it.
_CALL = Actor.__call__


@overload
def actor(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Actor[P, R]: ...


@overload
def actor(fn: Callable[P, R], /) -> Actor[P, R]: ...


@overload
def actor(
    fn: None = None,
    /,
    *,
    actor_class: Callable[..., Any] = ...,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> ActorDecorator: ...


@overload
def actor(
    fn: Callable[P, Coroutine[Any, Any, R]],
    /,
    *,
    actor_class: Callable[..., Any] = ...,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> Actor[P, R]: ...


@overload
def actor(
    fn: Callable[P, R],
    /,
    *,
    actor_class: Callable[..., Any] = ...,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> Actor[P, R]: ...


def actor(  # type: ignore[misc]  # the function cannot come as an option named "fn"
    fn: Callable[..., Any] | None = None,
    *,
    actor_class: Callable[..., Any] = Actor,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> Any:
    """Declare an actor; usable bare, with options, or called on a function.

    Args:
        fn: The function.
        actor_class: What is called to make the actor.
        actor_name: Its name in messages; by default the function's.
        queue_name: The queue its messages go to.
        priority: Lower runs first among what a worker holds.
        broker: The broker; by default the process-wide one.
        options: What middleware is to know, `max_retries` for example.

    Raises:
        ValueError: If the queue's name is not valid, an option is not known to any middleware of
            the broker, or the name is taken.
    """

    def decorate(fn: Callable[..., Any]) -> Any:
        name = actor_name or fn.__name__
        if not _queue_name_re.fullmatch(queue_name):
            raise ValueError(
                f"Actor {name!r}: {queue_name!r} is not a valid queue name. Queue names must start "
                "with a letter or an underscore followed by any number of letters, digits, dots, "
                "dashes or underscores."
            )
        chosen_broker = broker or get_broker()
        unknown = options.keys() - chosen_broker.actor_options
        if unknown:
            raise ValueError(_explain_options(name, unknown, chosen_broker.actor_options))
        return actor_class(
            fn,
            actor_name=name,
            queue_name=queue_name,
            priority=priority,
            broker=chosen_broker,
            options=dict(options),
        )

    return decorate if fn is None else decorate(fn)


def _explain_options(actor_name: str, unknown: set[str], known: set[str]) -> str:
    import difflib

    hints = []
    for name in sorted(unknown):
        close = difflib.get_close_matches(name, known, n=1)
        hints.append(f"{name} (did you mean {close[0]!r}?)" if close else name)
    return (
        f"Actor {actor_name!r}: the following actor options are undefined: {', '.join(hints)}. "
        "Did you forget to add a middleware to your Broker?"
    )


def _is_async(fn: Callable[..., Any]) -> bool:
    # A class-based actor is called through its instance, whose perform is the function.
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(
        getattr(type(fn), "perform", None)
    )


def _refuse_generators(fn: Callable[..., Any], actor_name: str) -> None:
    for each in (fn, getattr(type(fn), "perform", None)):
        if inspect.isasyncgenfunction(each):
            raise TypeError(
                f"Actor {actor_name!r} is an async generator: it would yield to nobody. "
                "Return the values, or send a message for each."
            )
        if inspect.isgeneratorfunction(each):
            # No error, because it is none in 2.x: applications that have one boot.
            warnings.warn_explicit(
                f"Actor {actor_name!r} is a generator: to call it runs nothing of it, and its "
                "messages end as if they had succeeded. Return the values, or send a message for "
                "each.",
                RuntimeWarning,
                each.__code__.co_filename,
                each.__code__.co_firstlineno,
            )


def _milliseconds(delay: timedelta | int | None) -> int | None:
    if delay is None or isinstance(delay, (int, float)):
        return delay
    from datetime import timedelta  # only who passes one has paid for it

    # Exact: multiplying the total seconds would lose a millisecond to rounding.
    return int(delay / timedelta(milliseconds=1))


def _find_actor(actor_name: str) -> Actor[Any, Any]:
    return get_broker().get_actor(actor_name)
