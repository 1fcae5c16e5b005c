"""`pause` and `resume`: whether workers take anything from queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .application import add_application_options, load_application, queue_of

if TYPE_CHECKING:
    import argparse

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
A paused queue takes messages and gives none away, until it is resumed. It is kept in the broker's
store and holds for all workers of this library; those of 2.x take no notice.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands."""
    parser.add_argument("queues", metavar="QUEUE", nargs="+")
    add_application_options(parser, positional=False)


def run(args: argparse.Namespace) -> int:
    """Pause or resume queues."""
    broker = load_application(args)
    inspection = broker.inspection
    is_pause = args.command == "pause"
    # All names are checked before anything is done.
    for name in [queue_of(broker, name) for name in args.queues]:
        (inspection.pause if is_pause else inspection.resume)(name)
        print(f"{name}: {'paused' if is_pause else 'resumed'}")
    return 0
