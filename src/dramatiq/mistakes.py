"""What senders and declarations get wrong, and what to say about it.

Nothing here refuses anything: Dramatiq 2.x accepts it, and a pipeline or a middleware may make it
right later. It is told once for each kind of mistake, when the message is sent, where the mistake
is; not twenty retries later in a worker.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping

    from .message import Message

__all__ = ["Advisor", "Expectations", "already_registered", "close_match", "place_of"]

#: Options of messages that no middleware declares for actors.
MESSAGE_OPTIONS = frozenset(
    {
        "delay",
        "eta",
        "group_callbacks",
        "group_completion_callbacks",
        "group_completion_member",
        "group_completion_uuid",
        "pipe_ignore",
        "pipe_target",
        "redis_message_id",
        "requeue_timestamp",
        "retries",
        "traceback",
    }
)

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Expectations:
    """What a function takes, worked out once, so that looking at a call costs little.

    Args:
        fn: The function. What wraps another one is taken at its own signature, not the wrapped
            one's: it may well add arguments.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        parameters = _parameters(fn)
        kinds = {parameter.kind for parameter in parameters}
        positional = [each for each in parameters if each.kind in _POSITIONAL]
        self._positional = tuple(each.name for each in positional)
        self._takes_more = inspect.Parameter.VAR_POSITIONAL in kinds
        self._takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self._names = frozenset(
            each.name
            for each in parameters
            if each.kind
            in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        )
        self._required = tuple(
            each.name
            for each in parameters
            if each.default is inspect.Parameter.empty
            and each.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        )
        self._required_by_position = sum(each in self._positional for each in self._required)

    def what_is_wrong(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """Say why a call with these arguments fails; None if it does not."""
        given = len(args)
        fits = self._takes_more or given <= len(self._positional)
        if fits and not kwargs and self._required_by_position == len(self._required) <= given:
            return None
        if not fits:
            return f"it takes {len(self._positional)} positional arguments, not {given}"
        by_position = self._positional[:given]
        for name in kwargs:
            if name in by_position and name in self._names:
                return f"argument {name!r} is given twice"
            if name not in self._names and not self._takes_any_name:
                return f"it has no argument {name!r}.{close_match(name, self._names)}".rstrip(".")
        missing = [n for n in self._required if n not in by_position and n not in kwargs]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            return f"argument{plural} {', '.join(map(repr, missing))} missing"
        return None


class Advisor:
    """Says what is wrong with the messages of one actor. From any thread.

    Args:
        actor_name: The actor.
        logger: Where to say it.
    """

    def __init__(self, actor_name: str, logger: logging.Logger) -> None:
        self._actor_name = actor_name
        self._logger = logger
        self._told: set[str] = set()
        self._fn: Callable[..., Any] | None = None
        self._expectations: Expectations | None = None

    def look_at_arguments(self, fn: Callable[..., Any], message: Message[Any]) -> None:
        """Say that a message that is sent on its own will fail, as a call like it would."""
        expectations = self._expectations
        if expectations is None or fn is not self._fn:
            expectations = self._expectations = Expectations(fn)
            self._fn = fn
        problem = expectations.what_is_wrong(message.args, message.kwargs)
        if problem is not None and self._is_news(problem):
            self._logger.warning(
                "%s(): %s. The message is sent all the same and will fail in the worker, unless a "
                "middleware there changes its arguments.",
                self._actor_name,
                problem,
            )

    def look_at_options(self, options: Mapping[str, Any], actor_options: set[str]) -> None:
        """Say that an option looks like a misspelt one; others may be somebody's, and are fine."""
        known = MESSAGE_OPTIONS | actor_options
        for name in options.keys() - known:
            hint = close_match(name, known)
            if hint and self._is_news(name):
                self._logger.warning(
                    "%s(): no middleware of the broker knows the message option %r.%s",
                    self._actor_name,
                    name,
                    hint,
                )

    def _is_news(self, text: str) -> bool:
        """Tell whether this was not said before; once is enough for a loop that sends."""
        is_news = text not in self._told
        self._told.add(text)
        return is_news


def already_registered(actor_name: str, present: Any, fn: Callable[..., Any]) -> ValueError:
    """Return the error of a name that is taken; its text is that of 2.x, the rest is a note.

    Args:
        actor_name: The name.
        present: The actor that has it.
        fn: The function of the one that wants it.
    """
    error = ValueError(f"An actor named {actor_name!r} is already registered.")
    declared = getattr(present, "_coroutine_fn", None) or getattr(present, "fn", None)
    error.add_note(
        f"The first is declared at {place_of(declared)}, this one at {place_of(fn)}. Give one of "
        "them another actor_name. Is the module imported under two names?"
    )
    return error


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn, follow_wrapped=False).parameters.values())
    except (TypeError, ValueError):  # functions written in C may not tell
        any_of = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return [inspect.Parameter(f"any{kind.value}", kind) for kind in any_of]


def close_match(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is most alike, or an empty string."""
    from difflib import get_close_matches

    matches = get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def place_of(fn: Any) -> str:
    """Return where a function is defined, as ``file:line``, if it can tell."""
    code = getattr(inspect.unwrap(fn) if callable(fn) else fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "an unknown place"
