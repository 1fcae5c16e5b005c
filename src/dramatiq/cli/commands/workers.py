"""`workers`: the worker processes that are registered with the broker."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...common import current_millis
from .application import add_application_options, load_application
from .tables import add_json_option, print_json, print_table
from .units import ago

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """List the worker processes."""
    workers = load_application(args).inspection.workers()
    if args.json:
        print_json([dataclasses.asdict(each) for each in workers])
        return 0
    now_ms = current_millis()
    print_table(
        ["WORKER", "HOST", "PID", "STARTED", "LAST SEEN", "ALIVE", "HOLDS"],
        [
            [
                each.worker_id,
                each.host,
                each.pid,
                ago(each.started_at, now_ms),
                ago(each.seen_at, now_ms),
                each.is_alive,
                each.leased,
            ]
            for each in workers
        ],
        empty="No worker is registered. Start one: dramatiq MODULE",
    )
    return 0
