"""`migrate-schema`: make the tables that a broker needs, or bring them up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .application import add_application_options, load_application

if TYPE_CHECKING:
    import argparse

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
Tables that do not exist are made at the first use too, where the broker's role may do that. Those
of an older version are changed by this command alone, in one transaction; workers of that version
may go on meanwhile:

  $ DRAMATIQ_BROKER_URL=postgresql://owner@db.example.com/shop dramatiq migrate-schema
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)


def run(args: argparse.Namespace) -> int:
    """Migrate."""
    before, after = load_application(args).inspection.migrate_schema()
    if before == after:
        print(f"The tables are up to date (version {after}).")
    elif not before:
        print(f"The tables are made (version {after}).")
    else:
        print(f"The tables have version {after} now; they had {before}.")
    return 0
