"""The arguments of a call, as they stand on a command line. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..imports import close_matches
from .errors import UsageError

if TYPE_CHECKING:
    import inspect
    from collections.abc import Collection, Iterable

__all__ = ["parse_call", "parse_pairs", "parse_value", "refuse_wrong_call", "warn_about_options"]

#: Options of messages that no middleware declares for actors.
MESSAGE_OPTIONS = frozenset({"pipe_ignore", "pipe_target"})


def parse_value(text: str) -> Any:
    """Return what a word stands for: its value if it is JSON, else the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_pairs(pairs: Iterable[str], option: str) -> dict[str, Any]:
    """Read ``name=value`` words.

    Args:
        pairs: The words.
        option: The option they were given with, for the error.

    Raises:
        UsageError: If one is something else.
    """
    parsed: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes name=value, not {pair!r}.")
        parsed[name] = parse_value(value)
    return parsed


def parse_call(
    words: Iterable[str], pairs: Iterable[str], json_args: str | None
) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and keyword arguments of a call.

    Args:
        words: Positional arguments.
        pairs: Keyword arguments, as ``name=value``.
        json_args: A JSON array of positional, or object of keyword arguments, put before those.

    Raises:
        UsageError: If something cannot be read.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if json_args is not None:
        try:
            given = json.loads(json_args)
        except ValueError as error:
            raise UsageError(f"--json-args is not JSON: {error}.") from None
        if isinstance(given, list):
            args = given
        elif isinstance(given, dict):
            kwargs = given
        else:
            raise UsageError("--json-args must be an array or an object, as '[1, \"two\"]'.")
    args += [parse_value(word) for word in words]
    kwargs.update(parse_pairs(pairs, "-k"))
    return args, kwargs


def refuse_wrong_call(
    name: str, signature: inspect.Signature | None, args: list[Any], kwargs: dict[str, Any]
) -> None:
    """Check a call against what the actor takes.

    Raises:
        UsageError: If it does not fit; shows the signature.
    """
    if signature is None:
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        hint = _keyword_hint(signature, kwargs)
        raise UsageError(
            f"{name} cannot be called like this: {error}.{hint} Its signature is {name}{signature}."
        ) from None


def warn_about_options(options: Collection[str], known: Collection[str]) -> list[str]:
    """Return a line for each option of a message that nobody seems to read."""
    everything = {*known, *MESSAGE_OPTIONS}
    return [
        f"No middleware of the broker knows the option {name!r}; it is sent all the same."
        + close_matches(name, everything)
        for name in sorted(set(options) - everything)
    ]


def _keyword_hint(signature: inspect.Signature, kwargs: dict[str, Any]) -> str:
    for name in kwargs:
        if name not in signature.parameters:
            return close_matches(name, signature.parameters)
    return ""
