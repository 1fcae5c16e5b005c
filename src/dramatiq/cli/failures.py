"""Turn an error while booting into an exit code and a text that says what to do."""

from __future__ import annotations

import traceback
from pathlib import Path

from ..errors import BrokerConnectionError

RET_OK = 0
RET_KILLED = 1
RET_IMPORT = 2
RET_CONNECT = 3
RET_PIDFILE = 4

#: Frames of these files are about how we import, not about what went wrong.
OWN_DIRECTORY = str(Path(__file__).parent)


class RefusedError(Exception):
    """Raised when `--strict` makes a warning an error."""


def refuse_warnings(warnings: list[str]) -> None:
    """Refuse to boot if there are any warnings.

    Raises:
        RefusedError: With all of them.
    """
    if warnings:
        raise RefusedError("\n".join([*warnings, "With --strict this is an error."]))


def exit_code_for(error: BaseException) -> int:
    """Return the exit code of a worker that fails to boot with this error."""
    if isinstance(error, (ImportError, RefusedError)):
        return RET_IMPORT
    if isinstance(error, BrokerConnectionError):
        return RET_CONNECT
    return RET_KILLED


def explain(error: BaseException, *, is_verbose: bool) -> str:
    """Describe an error for the user whose program failed to boot.

    Args:
        error: With its traceback.
        is_verbose: Show everything, instead of the frames from the user's file downwards.

    Returns:
        One line for errors that name their own cure, else a message and a traceback.
    """
    if isinstance(error, SystemExit):
        cause = f"The application called sys.exit({error.code!r}) while it was imported."
    elif isinstance(error, BrokerConnectionError):
        cause = (
            "The broker cannot be reached while the application is imported or set up: "
            f"{type(error).__name__}: {error} (Is the server running? Is its address right?)"
        )
    else:
        cause = str(error)

    described = traceback.TracebackException.from_exception(error)
    if is_verbose:
        return f"{cause}\n{''.join(described.format())}".rstrip()

    _keep_user_frames(described)
    is_ours = not described.stack and not isinstance(error, SyntaxError)
    plain = (ImportError, SystemExit, BrokerConnectionError, RefusedError)
    if is_ours and isinstance(error, plain):
        return cause
    if isinstance(error, (SystemExit, BrokerConnectionError)):
        return f"{cause}\n{''.join(described.stack.format())}".rstrip()
    text = "".join(described.format())
    return f"The application failed while it was imported or set up.\n{text}".rstrip()


def _keep_user_frames(described: traceback.TracebackException) -> None:
    """Drop the frames of this package and of the import system, here and in the causes."""
    seen: traceback.TracebackException | None = described
    while seen is not None:
        frames = [frame for frame in seen.stack if not _is_machinery(frame.filename)]
        seen.stack = traceback.StackSummary.from_list(frames)
        seen = seen.__cause__ or seen.__context__


def _is_machinery(filename: str) -> bool:
    is_import_system = "importlib" in filename and (
        filename.startswith("<frozen") or filename.endswith("importlib/__init__.py")
    )
    return is_import_system or filename.startswith(OWN_DIRECTORY)
