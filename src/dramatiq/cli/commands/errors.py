"""Exit codes of commands, and the errors that end one with a line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..imports import close_matches

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "RET_FAILURE",
    "RET_OK",
    "RET_UNREACHABLE",
    "RET_USAGE",
    "CommandError",
    "UsageError",
    "unknown_name",
]

RET_OK = 0
#: It could not be done, or was not confirmed.
RET_FAILURE = 1
#: The command line is wrong, or the application cannot be imported.
RET_USAGE = 2
#: The broker cannot be reached. (A worker says 3 for that, as in 2.x.)
RET_UNREACHABLE = 4


class CommandError(Exception):
    """Ends a command; its text is for the user."""

    exit_code = RET_FAILURE


class UsageError(CommandError):
    """Ends a command that was called in a wrong way, or for something that does not exist."""

    exit_code = RET_USAGE


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a queue or actor that does not exist.

    Args:
        kind: What it is the name of.
        name: The name that was given.
        known: The names that exist.
    """
    names = sorted(known)
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "none"
    return UsageError(f"No {kind} {name!r} is known ({listed}).{close_matches(name, names)}")
