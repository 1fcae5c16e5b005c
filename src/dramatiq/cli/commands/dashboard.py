"""`dashboard`: pages that show queues, messages, failures and workers, and act on them."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from ..recording import keep_history
from ..signals import try_unblock_signals
from .application import add_application_options, load_application
from .errors import CommandError
from .units import parse_positive

if TYPE_CHECKING:
    import argparse

    from ...broker import Broker

__all__ = ["EPILOG", "add_arguments", "run"]

#: Where it listens unless told otherwise.
HOST, PORT = "127.0.0.1", 8787

EPILOG = """\
It shows a link that works once; whoever follows it may use the dashboard from that browser. To
have it in your own application, behind its own login, mount dramatiq.dashboard.DashboardApp.

examples:
  $ dramatiq dashboard app
  $ dramatiq dashboard app --port 9000 --read-only
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    parser.add_argument(
        "--host", default=HOST, metavar="ADDRESS",
        help="the address to listen on (default: %(default)s, this machine alone); arguments of "
        "messages are hidden on any other",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=parse_positive, default=PORT, metavar="N",
        help="the port (default: %(default)s, or a free one if that is taken)",
    )  # fmt: skip
    parser.add_argument("--read-only", action="store_true", help="offer nothing that changes")
    parser.add_argument(
        "--hide-args", action="store_true", help="hide the arguments of messages here too"
    )
    parser.add_argument(
        "--environment", default="", metavar="NAME", help="shown beside the title: production"
    )
    parser.add_argument(
        "--history", action="store_true",
        help="show what `dramatiq dev --history` records of an application that turns none on",
    )  # fmt: skip
    parser.add_argument(
        "--end-with-stdin", action="store_true",
        help="end when standard input does, for programs that start this one",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serve the dashboard until it is interrupted.

    Raises:
        CommandError: If what it needs is not installed, or the port is taken.
    """
    if args.end_with_stdin:
        # A program that was replaced by itself starts this one with its signals blocked.
        try_unblock_signals()
    broker = load_application(args)
    if args.history:
        _keep_history(broker)
    try:
        import uvicorn  # noqa: F401 (asked for here, to say what is missing)

        from ...dashboard.access import ALL, READ_ONLY
        from ...dashboard.serving import serve
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the dashboard needs {error.name}. Install it: pip install 'dramatiq[dashboard]'"
        ) from error
    options = {"hide_args": True} if args.hide_args else {}
    try:
        serve(
            broker,
            host=args.host,
            port=_choose_port(args.host, args.port),
            verbs=READ_ONLY if args.read_only else ALL,
            tell=partial(_tell, is_mine=not args.end_with_stdin),
            until=0 if args.end_with_stdin else None,
            environment=args.environment,
            **options,
        )
    except (OSError, SystemExit) as error:
        raise CommandError(
            f"cannot listen on {args.host}:{args.port}. Choose another address: --host, --port"
        ) from error
    except KeyboardInterrupt:
        pass  # this is how it is ended
    return 0


def _keep_history(broker: Broker) -> None:
    try:
        keep_history(broker)
    except RuntimeError as error:
        raise CommandError(str(error)) from error


def _tell(link: str, *, is_mine: bool) -> None:
    print(f"Dashboard: {link}", flush=True)
    if is_mine:  # this terminal, and Ctrl-C
        sys.stderr.write("This link works once. End with Ctrl-C.\n")


def _choose_port(host: str, port: int) -> int:
    """Return the port; a free one if the usual one is taken and no other was asked for."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port != PORT:
        return port
    for choice in (port, 0):
        with closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, choice))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    return port
