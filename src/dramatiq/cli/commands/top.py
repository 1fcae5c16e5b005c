"""`top`: a live screen of queues, workers, what runs and what failed."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, TypeVar

from ...common import current_millis
from ...errors import BrokerConnectionError
from ...inspection import InspectionNotSupported, Selection, State
from ..summary import describe_broker
from .application import add_application_options, load_application
from .frame import Snapshot, changes_per_second, render
from .paint import Paint
from .screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...broker import Broker

__all__ = ["add_arguments", "look", "look_again", "run"]

T = TypeVar("T")

#: Seconds between two looks, if nothing else is said.
DEFAULT_INTERVAL_S = 2.0
#: Messages that are asked for, of those that run and of those that failed last.
MESSAGES = 20
#: Size of a frame that does not go to a terminal, which has all its lines.
PLAIN_SIZE = (160, 10_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    parser.add_argument(
        "--once", action="store_true", help="print one frame and exit; so does a pipe"
    )
    parser.add_argument(
        "--interval", type=_interval, default=DEFAULT_INTERVAL_S, metavar="SECONDS",
        help="time between two looks (default: %(default)g)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Show the screen until the user ends it."""
    broker = load_application(args)
    snapshot = look(broker, None)
    paint = Paint(sys.stdout)
    if args.once or not sys.stdout.isatty():
        for line in render(snapshot, *PLAIN_SIZE, paint, hint=""):
            print(line)
        return 0
    with Screen() as screen:
        while True:
            hint = f"every {args.interval:g} s, q ends"
            screen.draw(render(snapshot, *screen.size, paint, hint=hint))
            if not screen.wait(args.interval):
                return 0
            snapshot = look_again(broker, snapshot)


def look(broker: Broker, before: Snapshot | None) -> Snapshot:
    """Ask the broker for all that is shown.

    Args:
        broker: The broker.
        before: The last look.

    Raises:
        BrokerConnectionError: If it cannot be reached.
    """
    inspection = broker.inspection
    snapshot = Snapshot(
        taken_at=current_millis(),
        broker=describe_broker(broker),
        queues=_if_supported(inspection.queues),
        workers=_if_supported(inspection.workers),
        running=_if_supported(
            lambda: inspection.messages(State.LEASED, Selection(), limit=MESSAGES).items
        ),
        failures=_if_supported(
            lambda: inspection.messages(State.DEAD, Selection(), limit=MESSAGES).items
        ),
    )
    return dataclasses.replace(snapshot, changes=changes_per_second(before, snapshot))


def look_again(broker: Broker, before: Snapshot) -> Snapshot:
    """Do what `look` does; if the broker is away, return the last look, which says so."""
    try:
        return look(broker, before)
    except BrokerConnectionError as error:
        return dataclasses.replace(before, error=f"The broker cannot be reached: {error}")


def _if_supported(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except InspectionNotSupported:
        return None


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds.") from None
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be between 0.1 and 3600 seconds, not {text}.")
    return seconds
