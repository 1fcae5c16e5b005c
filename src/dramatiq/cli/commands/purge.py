"""`purge`: drop the messages of queues for good."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ...inspection import State
from .application import add_application_options, load_application, queue_of
from .confirmation import add_confirmation_options, confirm

if TYPE_CHECKING:
    from ...inspection import Inspection

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
What a worker holds is never dropped. Dead letters are dropped only if they are asked for:

  $ dramatiq purge mail --state ready,delayed,dead
"""

#: What can be dropped: not what a worker holds.
PURGEABLE = (State.READY, State.DELAYED, State.DEAD)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("queues", metavar="QUEUE", nargs="+")
    parser.add_argument(
        "--state", type=parse_states, default=[State.READY, State.DELAYED], metavar="STATES",
        help="drop messages of these states, separated by commas: ready, delayed, dead "
        "(default: ready,delayed)",
    )  # fmt: skip
    add_confirmation_options(parser)
    add_application_options(parser, positional=False)


def parse_states(text: str) -> list[State]:
    """Read states that can be purged, separated by commas.

    Raises:
        argparse.ArgumentTypeError: If one is something else.
    """
    by_name = {state.value: state for state in PURGEABLE}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            reason = ": workers hold these messages" if name == State.LEASED.value else ""
            raise argparse.ArgumentTypeError(
                f"{name!r} cannot be purged{reason}. Choose from {', '.join(by_name)}."
            )
    if not names:
        raise argparse.ArgumentTypeError(f"name at least one of {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names)]


def run(args: argparse.Namespace) -> int:
    """Drop messages."""
    broker = load_application(args)
    inspection = broker.inspection
    names = list(dict.fromkeys(queue_of(broker, name) for name in args.queues))
    count = sum(_count(inspection, name, args.state) for name in names)
    what = " and ".join(state.value for state in args.state)
    if not count:
        sys.stderr.write(f"There are no {what} messages in {', '.join(names)}.\n")
        return 0
    messages = "message" if count == 1 else "messages"
    if not confirm(args, f"Drop {count:,} {what} {messages} of {', '.join(names)} for good."):
        return 0
    dropped = sum(inspection.purge(name, args.state) for name in names)
    print(f"{dropped:,} dropped")
    return 0


def _count(inspection: Inspection, queue_name: str, states: list[State]) -> int:
    counts = inspection.queue(queue_name).counts
    return sum(getattr(counts, state.value) for state in states)
