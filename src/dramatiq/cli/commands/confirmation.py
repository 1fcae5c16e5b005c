"""What stands before every destructive step: a count, a dry run, a question."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .errors import CommandError, UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["add_confirmation_options", "confirm"]


def add_confirmation_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dry-run`` and ``--yes``."""
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do it without asking")


def confirm(args: argparse.Namespace, what: str) -> bool:
    """Say what is about to be done, and ask whether it is meant.

    Args:
        args: With the options of `add_confirmation_options`.
        what: What would be done, with its count, as an order.

    Returns:
        Whether to do it; False for a dry run.

    Raises:
        CommandError: If the user does not confirm.
        UsageError: If there is nobody to ask.
    """
    if args.dry_run:
        sys.stderr.write(f"Dry run. Without --dry-run: {what}\n")
        return False
    if args.yes:
        sys.stderr.write(f"{what}\n")
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} Refused: there is no terminal to ask on. Repeat with --yes, or with --dry-run "
            "to look at it."
        )
    sys.stderr.write(f"{what} Go on? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was done.")
    return True
