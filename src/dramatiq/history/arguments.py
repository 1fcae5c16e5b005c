"""Arguments as they are recorded: without what is secret, as JSON, and never too long."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

__all__ = ["REDACTED", "Redact", "describe_arguments", "limit_end", "limit_start"]

#: Stands where something was taken out.
REDACTED = "[redacted]"
#: Stands where an actor has more of something than is recorded.
CUT = "…"

#: The names of arguments, and of keys in dictionaries, whose values are secret; or a function
#: that gets the actor's name, the positional and the keyword arguments, and returns those two as
#: they may be recorded.
Redact = (
    Collection[str]
    | Callable[[str, Sequence[Any], Mapping[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]]
)

_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=repr)


def describe_arguments(
    actor_name: str,
    function: Callable[..., Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    redact: Redact,
    limit: int,
) -> str:
    """Return arguments as JSON, redacted, of at most so many characters.

    Args:
        actor_name: The actor.
        function: What it calls, whose parameters give positional arguments their names; None
            where the actor is unknown here.
        args: Positional arguments.
        kwargs: Keyword arguments.
        redact: What to take out.
        limit: Characters to keep; 0 keeps nothing.
    """
    if not limit:
        return ""
    if callable(redact):
        args, kwargs = redact(actor_name, args, kwargs)
    elif redact:
        args = _redact_positional(function, args, redact)
        kwargs = _redact_value(kwargs, redact)
    return limit_end(_encoder.encode({"args": args, "kwargs": kwargs}), limit)


def limit_end(text: str, limit: int) -> str:
    """Return a text of at most so many characters; its end is cut off."""
    return text if len(text) <= limit else text[: limit - 1] + CUT


def limit_start(text: str, limit: int) -> str:
    """Return a text of at most so many characters; its beginning is cut off."""
    return text if len(text) <= limit else CUT + text[len(text) - limit + 1 :]


def _redact_positional(
    function: Callable[..., Any] | None, args: Sequence[Any], secret: Collection[str]
) -> list[Any]:
    names = _positional_names(function)
    if names is None:
        # Nobody knows which of them is the secret one.
        return [REDACTED] * len(args)
    names += [""] * (len(args) - len(names))
    return [
        REDACTED if name in secret else _redact_value(value, secret)
        for name, value in zip(names, args, strict=False)
    ]


def _positional_names(function: Callable[..., Any] | None) -> list[str] | None:
    if function is None:
        return None
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [each.name for each in parameters if each.kind in positional]


def _redact_value(value: Any, secret: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: REDACTED if key in secret else _redact_value(each, secret)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact_value(each, secret) for each in value]
    return value
