"""What of a message's arguments may be seen."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ..broker import Broker
    from ..message import Message

__all__ = ["HIDDEN", "REDACTED", "SECRET_NAMES", "Redact", "Redactor"]

#: Parts of the names of what is never shown, whatever case they are in.
SECRET_NAMES = ("password", "token", "secret", "authorization", "cookie")
#: Stands for a value that is secret.
REDACTED = "[redacted]"
#: Stands for what the visitor may not see.
HIDDEN = "[hidden]"
#: Stands for recorded arguments of which the end is missing.
CUT = "[too long to be shown]"
#: Options that hold whole messages, with their arguments.
_NESTED_OPTIONS = ("pipe_target", "group_callbacks")

#: Gets an actor's name, an argument's name (its number, where it has none) and its value; returns
#: the value to show.
Redact = Callable[[str, str, Any], Any]


class Redactor:
    """Takes out of messages what is secret.

    Args:
        broker: Whose actors give arguments their names.
        names: Parts of the names of what is secret, at any depth.
        redact: Called for each argument beside that.
    """

    def __init__(
        self, broker: Broker, names: Collection[str] = SECRET_NAMES, redact: Redact | None = None
    ) -> None:
        self._broker = broker
        self._names = tuple(name.casefold() for name in names)
        self._redact = redact

    def arguments(self, message: Message[Any]) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        """Return positional arguments with their names, and those given by keyword."""
        return self._call(message.actor_name, message.args, message.kwargs)

    def recorded(self, actor_name: str, text: str) -> str:
        """Return the arguments that the history recorded, as they are given in a call.

        What was cut off there cannot be told apart any more, so nothing of it is shown.
        """
        try:
            said = json.loads(text)
            positional, named = self._call(actor_name, said["args"], said["kwargs"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return CUT if text else ""
        parts = [repr(value) for _, value in positional]
        return ", ".join([*parts, *(f"{name}={value!r}" for name, value in named.items())])

    def _call(
        self, actor: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
        names = self._positional_names(actor)
        names += [str(number) for number in range(len(names), len(args))]
        positional = [
            (name, self._show(actor, name, value)) for name, value in zip(names, args, strict=False)
        ]
        return positional, {name: self._show(actor, name, value) for name, value in kwargs.items()}

    def options(self, message: Message[Any], *, may_see: bool) -> dict[str, Any]:
        """Return the options of a message; its traceback is shown elsewhere."""
        return {
            name: HIDDEN if name in _NESTED_OPTIONS and not may_see else self._mask(name, value)
            for name, value in message.options.items()
            if name != "traceback"
        }

    def _show(self, actor_name: str, name: str, value: Any) -> Any:
        value = self._mask(name, value)
        return value if self._redact is None else self._redact(actor_name, name, value)

    def _mask(self, name: object, value: Any) -> Any:
        text = str(name).casefold()
        if any(secret in text for secret in self._names):
            return REDACTED
        if isinstance(value, Mapping):
            return {key: self._mask(key, each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._mask("", each) for each in value]
        return value

    def _positional_names(self, actor_name: str) -> list[str]:
        actor = self._broker.actors.get(actor_name)
        if actor is None:
            return []
        function = getattr(actor.fn, "perform", actor.fn)
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return []
        positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
        return [each.name for each in parameters if each.kind in positional]
