"""Which broker a command is about: the options that say so, and getting hold of it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ...broker import get_broker
from ...common import q_name
from ...default_broker import URL_VARIABLE
from ...errors import BrokerConnectionError
from ...inspection import InspectionNotSupported
from ..failures import explain
from ..imports import import_broker, import_object
from .errors import UsageError, unknown_name

if TYPE_CHECKING:
    import argparse

    from ...actor import Actor
    from ...broker import Broker

__all__ = ["add_application_options", "find_actor", "known_queues", "load_application", "queue_of"]


def add_application_options(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add what names the application.

    Args:
        parser: The parser of a command.
        positional: Whether the command's arguments are the modules. Elsewhere they are names of
            queues or messages, and modules are given with ``-a`` alone.
    """
    if positional:
        parser.add_argument(
            "modules", metavar="MODULE", nargs="*",
            help="where the broker is, as for workers: 'package.module' or "
            "'package.module:variable'; then more modules to import, for their actors. Without "
            "any: the broker of DRAMATIQ_BROKER_URL, or the default one",
        )  # fmt: skip
    parser.add_argument(
        "-a", "--app", metavar="MODULE", action="append", default=[],
        help="a module, as above; repeatable" if positional
        else "where the broker is, as for workers: 'package.module' or 'package.module:variable'; "
        "repeatable, for more modules with actors. Without it: the broker of DRAMATIQ_BROKER_URL, "
        "or the default one",
    )  # fmt: skip
    parser.add_argument(
        "-P", "--path", metavar="DIR", action="append", default=[],
        help="import from this directory too (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="log debug messages and full tracebacks"
    )


def load_application(args: argparse.Namespace) -> Broker:
    """Import what the command line names, and return the broker.

    Raises:
        UsageError: If it cannot be imported.
        BrokerConnectionError: If the application talks to its broker while it is imported, in
            vain.
    """
    if args.verbose:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    for path in [os.curdir, *args.path]:
        sys.path.insert(0, os.path.abspath(path))  # noqa: PTH100 - links stay as they are
    names = module_names(args)
    if not names:
        return _default_broker()
    try:
        _, broker = import_broker(names[0])
        for name in names[1:]:
            import_object(name)
    except BrokerConnectionError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise UsageError(explain(error, is_verbose=args.verbose)) from error
    return broker


def _default_broker() -> Broker:
    try:
        return get_broker()
    except (AttributeError, ImportError, ValueError) as error:  # no such broker, or not installed
        raise UsageError(f"{URL_VARIABLE} cannot be used: {error}") from error


def module_names(args: argparse.Namespace) -> list[str]:
    """Return the modules that the command line names, the broker's first."""
    return [*getattr(args, "modules", ()), *args.app]


def find_actor(broker: Broker, name: str) -> Actor[..., object]:
    """Return a declared actor.

    Raises:
        UsageError: If there is none of that name.
    """
    if name not in broker.actors:
        raise unknown_name("actor", name, broker.actors)
    return broker.actors[name]


def known_queues(broker: Broker) -> set[str]:
    """Return the queues that the store or the application knows."""
    names = {q_name(name) for name in broker.get_declared_queues()}
    with suppress(InspectionNotSupported):  # then those that are declared have to do
        names.update(each.name for each in broker.inspection.queues())
    return names


def queue_of(broker: Broker, name: str) -> str:
    """Return the canonical name of a queue that is known.

    Raises:
        UsageError: If it is not.
    """
    name = q_name(name)
    known = known_queues(broker)
    if name not in known:
        raise unknown_name("queue", name, known)
    return name
