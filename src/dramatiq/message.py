"""The immutable envelope: what to run, with what, and under which options."""

from __future__ import annotations

import dataclasses
import os
from contextlib import nullcontext
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from .common import current_millis
from .encoder import Encoder, JSONEncoder, MessageData
from .errors import DecodeError
from .threading import waiting_for_others

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .composition import group, pipeline
    from .composition.partial import Partial
    from .results import ResultBackend

__all__ = ["Message", "generate_unique_id", "get_encoder", "set_encoder"]

#: The encoder of every message in this process.
global_encoder: Encoder = JSONEncoder()

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")


def get_encoder() -> Encoder:
    """Return the process-wide encoder of messages, a `JSONEncoder` unless it was replaced."""
    return global_encoder


def set_encoder(encoder: Encoder) -> None:
    """Make ``encoder`` the process-wide encoder of messages.

    Producers and workers must use the same one.
    """
    global global_encoder  # noqa: PLW0603 (there is one per process, by contract)
    global_encoder = encoder


def generate_unique_id() -> str:
    """Return a fresh UUID4 as text."""
    # What str(uuid.uuid4()) returns, in less than half the time: one is made for each message.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


@dataclasses.dataclass(frozen=True)
class Message(Generic[R_co]):
    """What is sent to a queue: an actor's name, its arguments, and options.

    Fields cannot be assigned, but ``kwargs`` and ``options`` are ordinary dictionaries, which
    middleware changes in place.

    Attributes:
        queue_name: The queue it is for; ends in ``.DQ`` while a delay queue holds it.
        actor_name: The actor to run.
        args: Positional arguments; any iterable, kept as a tuple.
        kwargs: Keyword arguments.
        options: What middleware and brokers read; any key is accepted and carried.
        message_id: Unique and the same over retries.
        message_timestamp: When it was made, in UNIX epoch milliseconds.
    """

    queue_name: str
    actor_name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str = dataclasses.field(default_factory=generate_unique_id)
    message_timestamp: int = dataclasses.field(default_factory=current_millis)

    _fields: ClassVar[tuple[str, ...]]
    #: Whether an actor that returns one means it to take its place in its workflow.
    _is_composed: ClassVar[bool] = True
    _field_defaults: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        if type(self.args) is not tuple:
            object.__setattr__(self, "args", tuple(self.args))

    @overload
    def __or__(self: Message[T], other: Partial[T, S]) -> pipeline[S]: ...

    @overload
    def __or__(self, other: group[S]) -> pipeline[list[S]]: ...

    @overload
    def __or__(self, other: Message[S] | pipeline[S]) -> pipeline[S]: ...

    def __or__(self, other: Any) -> Any:
        """Combine this message with what is to run after it on its result."""
        from .composition import pipeline  # composition is built on messages

        return pipeline([self, other])

    def asdict(self) -> MessageData:
        """Return the fields as a dictionary; nested values are the same objects, not copies."""
        return {
            "queue_name": self.queue_name,
            "actor_name": self.actor_name,
            "args": self.args,
            "kwargs": self.kwargs,
            "options": self.options,
            "message_id": self.message_id,
            "message_timestamp": self.message_timestamp,
        }

    _asdict = asdict

    def _replace(self, **changes: Any) -> Message[R_co]:
        return dataclasses.replace(self, **changes)

    @classmethod
    def decode(cls, data: bytes) -> Message[Any]:
        """Turn bytes into a message with the process-wide encoder.

        Raises:
            DecodeError: For anything that is not a message.
        """
        try:
            fields = global_encoder.decode(data)
            if cls is Message and tuple(fields) == cls._fields:
                # As `encode` writes them: nothing to check, nothing to fill in.
                fields["args"] = tuple(fields["args"])
                return _assemble(fields)
            return cls(**{**fields, "args": tuple(fields["args"])})
        except Exception as error:
            raise DecodeError("Failed to decode message.", data, error) from error

    def encode(self) -> bytes:
        """Turn this message into bytes with the process-wide encoder.

        Raises:
            TypeError: If an argument or option cannot be encoded; the text names it.
        """
        try:
            return global_encoder.encode(self.asdict())
        except (TypeError, ValueError, RecursionError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> Exception:
        """Return an error of the same class that names the value that cannot be encoded."""
        for label, value in self._parts():
            try:
                global_encoder.encode({"value": value})
            except Exception:
                explanation = (
                    f"{self.actor_name}(): {label} ({type(value).__name__}) cannot be encoded by "
                    f"{type(global_encoder).__name__}: {error}. Pass a value it can carry, text or "
                    f"numbers for example, or replace the encoder with dramatiq.set_encoder()."
                )
                return type(error)(explanation) if type(error) in _PLAIN_ERRORS else error
        return error

    def _parts(self) -> Iterator[tuple[str, Any]]:
        names = _parameter_names(self.actor_name)
        for index, value in enumerate(self.args):
            yield f"argument {(names[index] if index < len(names) else index)!r}", value
        for name, value in self.kwargs.items():
            yield f"argument {name!r}", value
        for name, value in self.options.items():
            yield f"option {name!r}", value

    def copy(self, **attributes: Any) -> Message[R_co]:
        """Return a copy with some fields replaced.

        ``options`` are merged over the present ones rather than replacing them; the message id
        and timestamp stay unless given.
        """
        if "options" in attributes:
            attributes["options"] = {**self.options, **attributes["options"]}
        if type(self) is not Message or not attributes.keys() <= _FIELD_NAMES:
            return dataclasses.replace(self, **attributes)
        message = _assemble({**self.__dict__, **attributes})
        message.__post_init__()
        return message

    def if_failed(self, policy: str) -> Message[R_co]:
        """Return a copy that says what becomes of what it is part of if it fails for good.

        Args:
            policy: ``"fail"``, the group or pipeline fails too; ``"ignore"``, it goes on with
                None as this message's result; ``"value"``, it goes on with the error as a value.

        Raises:
            ValueError: If there is no such policy.
        """
        from .composition import check_policy  # composition is built on messages

        return self.copy(options={"failure": check_policy(policy)})

    def get_result(
        self,
        *,
        backend: ResultBackend | None = None,
        block: bool = False,
        timeout: int | None = None,
    ) -> R_co:
        """Return what the actor returned for this message.

        Args:
            backend: Where to look; the global broker's result backend by default.
            block: Whether to wait for it.
            timeout: Milliseconds to wait; 10 seconds by default.

        Raises:
            RuntimeError: If there is no result backend.
            ResultMissing: If there is no result yet and ``block`` is False.
            ResultTimeout: If there is none in time.
            ResultFailure: If the actor failed for good.
        """
        if backend is None:
            from .broker import get_broker  # the broker is built on messages

            broker = get_broker()
            backend = broker.get_results_backend()
            for middleware in broker.middleware:
                warn = getattr(middleware, "warn_if_not_stored", None)
                if warn is not None:
                    warn(broker, self)
        with waiting_for_others() if block else nullcontext():
            result: R_co = backend.get_result(self, block=block, timeout=timeout)
        return result

    @property
    def message_datetime(self) -> datetime:
        """When the message was made, as an aware UTC datetime of millisecond precision."""
        from datetime import datetime, timedelta

        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return epoch + timedelta(milliseconds=int(self.message_timestamp))

    def __str__(self) -> str:
        arguments = [repr(value) for value in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.actor_name}({', '.join(arguments)})"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return tuple(self.asdict().values()) < tuple(other.asdict().values())


Message._fields = tuple(field.name for field in dataclasses.fields(Message))
_FIELD_NAMES = frozenset(Message._fields)


def _assemble(fields: dict[str, Any]) -> Message[Any]:
    """Return a message with these fields, all of them, the arguments as a tuple.

    In a third of the time that setting each field of a frozen class takes.
    """
    message = object.__new__(Message)
    message.__dict__.update(fields)
    return message


def message_of(fields: dict[str, Any]) -> Message[Any]:
    """Return a message with these fields, as `Message.asdict` gives them: all of them."""
    return _assemble({**fields, "args": tuple(fields["args"])})


def make_message(
    queue_name: str,
    actor_name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
) -> Message[Any]:
    """Return a new message: the same as the class would make, sooner."""
    return _assemble(
        {
            "queue_name": queue_name,
            "actor_name": actor_name,
            "args": args,
            "kwargs": kwargs,
            "options": options,
            "message_id": generate_unique_id(),
            "message_timestamp": current_millis(),
        }
    )


def _parameter_names(actor_name: str) -> list[str]:
    """Return the names of an actor's parameters; none when it is not known here."""
    import inspect

    from . import broker  # only to word an error

    actor = broker.global_broker and broker.global_broker.actors.get(actor_name)
    try:
        return list(inspect.signature(actor.fn).parameters) if actor else []
    except (TypeError, ValueError):  # functions written in C may not tell
        return []


#: Errors that can be rebuilt from a text alone.
_PLAIN_ERRORS = (TypeError, ValueError, RecursionError)
