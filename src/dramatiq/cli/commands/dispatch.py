"""From a reserved word to the command's exit code; every error becomes one line here."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ...errors import BrokerConnectionError, BrokerError
from ...inspection import InspectionNotSupported
from ..summary import mask_password
from . import COMMANDS, is_local_module
from .errors import RET_FAILURE, RET_OK, RET_UNREACHABLE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make_command_parser", "make_verb_parser", "run_command"]

#: The module of each command, in this package; the words that are not here have one of their own
#: name. `run` and `dev` parse the worker's command line themselves.
_MODULES = {
    "worker": "run",
    "inspect": "inspect_message",
    "requeue": "dead_letters",
    "delete": "dead_letters",
    "pause": "pausing",
    "resume": "pausing",
    "migrate-schema": "migrate_schema",
}
_WORKER_COMMANDS = frozenset({"run", "worker", "dev"})
#: What to do when the broker cannot be reached.
UNREACHABLE_HINT = (
    "If that is the wrong broker, name the application's module or set DRAMATIQ_BROKER_URL."
)


def run_command(argv: Sequence[str]) -> int:
    """Run the command that `argv` starts with, and return its exit code.

    Args:
        argv: The command line without the program's name; see `is_command`.
    """
    name = argv[0]
    _tell_about_module(name, argv[1:])
    module: Any = importlib.import_module(f"{__package__}.{_MODULES.get(name, name)}")
    if name in _WORKER_COMMANDS:
        code: int = module.run(name, argv[1:])
        return code
    # Intermixed, so that options may stand between the arguments.
    if argv[1:2] and argv[1] in getattr(module, "VERBS", ()):
        args = make_verb_parser(name, argv[1]).parse_intermixed_args(argv[2:])
    else:
        parser = make_command_parser(name)
        args = parser.parse_intermixed_args(argv[1:])
        if hasattr(module, "VERBS"):
            parser.error(f"the verb comes first: dramatiq {name} {args.verb} ...")
    return _run(module, args)


def make_command_parser(name: str) -> argparse.ArgumentParser:
    """Build the parser of a command that is none of the worker's."""
    module: Any = importlib.import_module(f"{__package__}.{_MODULES.get(name, name)}")
    parser = _make_parser(module, name, COMMANDS[name])
    module.add_arguments(parser)
    return parser


def make_verb_parser(name: str, verb: str) -> argparse.ArgumentParser:
    """Build the parser of a command with one of its verbs; see `VERBS` of its module."""
    module: Any = importlib.import_module(f"{__package__}.{_MODULES.get(name, name)}")
    parser = _make_parser(module, f"{name} {verb}", module.VERBS[verb])
    module.add_verb_arguments(parser, verb)
    parser.set_defaults(verb=verb)
    return parser


def _make_parser(module: Any, name: str, what: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"dramatiq {name}",
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An option of a destructive command is spelt out or not meant.
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    return parser


def _run(module: Any, args: argparse.Namespace) -> int:
    try:
        code: int = module.run(args)
        sys.stdout.flush()
    except CommandError as error:
        return _fail(args, str(error), error.exit_code)
    except InspectionNotSupported as error:
        return _fail(args, str(error), RET_FAILURE)
    except BrokerConnectionError as error:
        return _fail(args, f"{_one_line(error)} {UNREACHABLE_HINT}", RET_UNREACHABLE)
    except BrokerError as error:
        return _fail(args, _one_line(error), RET_FAILURE)
    except KeyboardInterrupt:
        return _fail(args, "interrupted; what was done until then stays done.", RET_FAILURE)
    except BrokenPipeError:
        # Whoever read our output, `head` for example, has seen enough.
        _discard_stdout()
        return RET_OK
    return code


def _fail(args: argparse.Namespace, text: str, code: int) -> int:
    sys.stderr.write(f"dramatiq {args.command}: {text}\n")
    return code


def _one_line(error: BaseException) -> str:
    return mask_password(" ".join(str(error).split()))


def _discard_stdout() -> None:
    """Keep the interpreter's last flush from failing again."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, sys.stdout.fileno())
    os.close(descriptor)


def _tell_about_module(name: str, rest: Sequence[str]) -> None:
    """Say how to run a module that is called like a command."""
    if name in _WORKER_COMMANDS and rest and not rest[0].startswith("-"):
        return  # `run app` names a module; whoever writes that knows
    if is_local_module(name):
        sys.stderr.write(
            f"dramatiq: {name!r} is taken for the command. "
            f"To run the module of that name: dramatiq run {name}\n"
        )
