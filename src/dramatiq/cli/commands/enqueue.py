"""`enqueue`: send a message to an actor, and wait for its result if asked to."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...results.errors import ResultFailure, ResultTimeout
from ..calls import signature_of
from ..summary import describe_broker
from .application import add_application_options, find_actor, load_application
from .arguments import parse_call, parse_pairs, refuse_wrong_call, warn_about_options
from .errors import CommandError, UsageError
from .tables import print_json
from .units import as_moment, parse_duration

if TYPE_CHECKING:
    from ...broker import Broker
    from ...message import Message
    from ...results import ResultBackend

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
Arguments are JSON where they can be read as such (5, true, null, '[1, 2]', '"5"'), else text.

examples:
  $ dramatiq enqueue app greet World
  $ dramatiq enqueue app:broker resize 17 -k width=640 --delay 5m -a app.images
  $ dramatiq enqueue app add 1 2 --wait 5
"""

#: Seconds --wait waits for if it is not told.
DEFAULT_WAIT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    # fmt: off
    add = parser.add_argument
    add("module", metavar="MODULE", help="where the broker is, as for workers")
    add("actor", metavar="ACTOR", help="the name of the actor")
    add("args", metavar="ARG", nargs="*", help="its arguments, in order")
    add(
        "-k", dest="pairs", metavar="NAME=VALUE", action="append", default=[],
        help="an argument by its name; repeatable",
    )
    add(
        "--json-args", metavar="JSON",
        help="arguments as a JSON array, or by name as a JSON object",
    )
    add(
        "--delay", metavar="DURATION", type=parse_duration,
        help="run it no sooner than in 30s, 5m, 1h30m",
    )
    add(
        "--option", dest="options", metavar="NAME=VALUE", action="append", default=[],
        help="an option of the message, max_retries=3 for example; repeatable",
    )
    add(
        "--wait", metavar="SECONDS", nargs="?", type=_seconds, const=DEFAULT_WAIT_S,
        help="print the result when it is there; wait for it so long at most "
        f"(default: {DEFAULT_WAIT_S:g})",
    )
    add("--json", action="store_true", help="print the message, and its result, as JSON")
    # fmt: on
    add_application_options(parser, positional=False)


def run(args: argparse.Namespace) -> int:
    """Send a message.

    Raises:
        UsageError: If there is no such actor, or it cannot be called like this.
        CommandError: If it failed, or was not done in time.
    """
    args.app.insert(0, args.module)
    broker = load_application(args)
    actor = find_actor(broker, args.actor)
    positional, keywords = parse_call(args.args, args.pairs, args.json_args)
    refuse_wrong_call(actor.actor_name, signature_of(actor), positional, keywords)
    options = parse_pairs(args.options, "--option")
    for line in warn_about_options(options, broker.actor_options):
        sys.stderr.write(f"{line}\n")

    backend = None
    if args.wait is not None:
        backend = _find_backend(broker)
        options.setdefault("store_results", True)
    try:
        message = actor.send_with_options(
            args=positional, kwargs=keywords, delay=args.delay, **options
        )
    except (TypeError, ValueError) as error:  # an option that middleware refuses
        raise UsageError(str(error)) from error
    _tell(args, broker, message)
    if backend is None:
        return 0
    return _wait(args, backend, message)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds. Write --wait after the arguments of the actor."
        ) from None
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}.")
    return seconds


def _find_backend(broker: Broker) -> ResultBackend:
    try:
        return broker.get_results_backend()
    except RuntimeError:
        raise UsageError(
            "--wait needs a result backend, and the broker has none. Nothing was sent. Add one "
            "before the actors are declared, here and in the workers:\n"
            "    from dramatiq.results import Results\n"
            "    from dramatiq.results.backends import SQLiteBackend  # or RedisBackend\n"
            "    broker.add_middleware(Results(backend=SQLiteBackend()))"
        ) from None


def _tell(args: argparse.Namespace, broker: Broker, message: Message[Any]) -> None:
    when = f", due {as_moment(current_millis() + args.delay)}" if args.delay is not None else ""
    sys.stderr.write(f"Sent {message} to {describe_broker(broker)}{when}.\n")
    if args.wait is not None:
        return
    if args.json:
        print_json(message.asdict())
    else:
        print(message.message_id)


def _wait(args: argparse.Namespace, backend: ResultBackend, message: Message[Any]) -> int:
    patience_ms = round(args.wait * 1000) + (args.delay or 0)
    try:
        result = backend.get_result(message, block=True, timeout=patience_ms)
    except ResultTimeout:
        raise CommandError(
            f"there is no result after {patience_ms / 1000:g} s. Does a worker run that serves "
            f"queue {message.queue_name!r}, with the same result backend? The message stays where "
            f"it is: dramatiq inspect {message.message_id}"
        ) from None
    except ResultFailure as error:
        raise CommandError(f"the actor failed: {error}") from None
    print_json({**message.asdict(), "result": result} if args.json else result)
    return 0
