"""`requeue` and `delete`: what becomes of messages that were given up."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Protocol

from ...common import current_millis
from ...inspection import Selection, State
from .application import add_application_options, load_application
from .confirmation import add_confirmation_options, confirm
from .errors import CommandError
from .messages import actor_hint, add_selection_options, selection_of
from .progress import ProgressBar, Throttle
from .units import parse_pace, parse_positive

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ...inspection import Inspection

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
Without options that say which, all dead letters are meant. `dramatiq messages --state dead`, with
the same options, lists them.

examples:
  $ dramatiq requeue --queue mail --error Timeout --since 2h --dry-run
  $ dramatiq requeue --actor resize --rate 50/s --yes
"""


class Operation(Protocol):
    """`Inspection.requeue` or `Inspection.delete_dead`."""

    def __call__(
        self,
        selection: Selection,
        *,
        limit: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> int: ...


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the commands."""
    add_application_options(parser)
    add_selection_options(parser)
    parser.add_argument("--limit", type=parse_positive, metavar="N", help="at most so many")
    parser.add_argument(
        "--rate", type=parse_pace, metavar="PACE", help="no faster than 50/s, 30/m or 100/h"
    )
    add_confirmation_options(parser)


def run(args: argparse.Namespace) -> int:
    """Requeue or delete dead letters.

    Raises:
        CommandError: If the user does not confirm, or a single message that was named is not
            among the dead.
    """
    broker = load_application(args)
    inspection = broker.inspection
    selection = freeze(inspection, selection_of(args, broker))
    is_requeue = args.command == "requeue"
    count = inspection.count_dead(selection)
    count = count if args.limit is None else min(count, args.limit)
    if not count:
        if args.id is not None:
            raise CommandError(f"no dead letter {args.id!r} is stored where you look.")
        sys.stderr.write(f"There are no dead letters like this.{actor_hint(args, broker)}\n")
        return 0

    letters = f"{count:,} dead letter{'' if count == 1 else 's'}"
    order = f"Requeue {letters}." if is_requeue else f"Delete {letters} for good."
    if not confirm(args, order):
        return 0
    operation = inspection.requeue if is_requeue else inspection.delete_dead
    with ProgressBar(count) as bar:
        done = move(operation, selection, count, args.rate, bar.show)
    return _report(done, count, "requeued" if is_requeue else "deleted")


def freeze(inspection: Inspection, selection: Selection) -> Selection:
    """Leave out what dies from now on: it is not what is counted, nor what the user has seen.

    Above all, a message that fails again at once must not be moved again and again.
    """
    if selection.until is not None:
        return selection
    names = [selection.queue_name or each.name for each in inspection.queues()]
    moments = [current_millis()]
    for name in dict.fromkeys(names):
        # By the clock of the store, which may be ahead of ours.
        newest = inspection.messages(State.DEAD, Selection(queue_name=name), limit=1).items
        moments += [each.died_at for each in newest if each.died_at is not None]
    return dataclasses.replace(selection, until=max(moments))


def move(
    operation: Operation,
    selection: Selection,
    count: int,
    pace: float | None,
    on_progress: Callable[[int], None],
    throttle: Throttle | None = None,
) -> int:
    """Carry an operation out, at its pace, and return how many messages it was done to.

    Args:
        operation: What to do.
        selection: To which dead letters.
        count: To how many at most.
        pace: How many per second; None for as fast as it goes.
        on_progress: Called with how many are done.
        throttle: Keeps the pace; for tests.
    """
    if pace is None:
        return operation(selection, limit=count, on_progress=on_progress)
    throttle = throttle or Throttle(pace)
    done = 0
    while done < count:
        asked = min(throttle.step, count - done)
        moved = operation(selection, limit=asked)
        done += moved
        on_progress(done)
        if moved < asked:
            break
        if done < count:
            throttle.keep_pace(done)
    return done


def _report(done: int, count: int, what: str) -> int:
    print(f"{done:,} {what}")
    if done < count:
        sys.stderr.write(
            f"{count - done:,} of them were not {what}: they are gone by now, or cannot be "
            "decoded. `dramatiq messages --state dead` shows what is left.\n"
        )
        return 1
    return 0
