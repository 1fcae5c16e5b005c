"""Measure this library side by side with its peers and with the limit.

    python -m benchmarks                                        everything, some twenty minutes
    python -m benchmarks --peers sqlite                         one kind of store
    python -m benchmarks --peers dramatiq_sqlite --workloads drain,async
    python -m benchmarks --peers dramatiq_sqlite,huey_sqlite:best --rounds 1 --json

Systems: see `benchmarks.systems`; workloads: see `benchmarks.workloads`. Every figure is also kept
as a line of JSON in benchmarks/results/; the last line of each file is the machine. A peer's newest
release is installed when its environment in benchmarks/.venvs/ is missing; remove it to update.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import machine
from .report import Row, table
from .session import Session
from .systems import System, select
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = Path(__file__).resolve().parent / "results"
ROUNDS = 3


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--peers", default="", help="systems or stores, separated by commas (default: all)"
    )
    parser.add_argument("--workloads", default="", help=f"of: {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    options = parser.parse_args(arguments)
    try:
        options.systems = select(options.peers)
    except ValueError as error:
        parser.error(str(error))
    options.workloads = options.workloads.split(",") if options.workloads else list(WORKLOADS)
    if unknown := [name for name in options.workloads if name not in WORKLOADS]:
        parser.error(f"unknown workloads: {', '.join(unknown)} (known: {', '.join(WORKLOADS)})")
    return options


def measure(options: argparse.Namespace, syncs: list[float]) -> Iterator[Row]:
    """Measure round by round, all systems in turn, so that a slow minute hits all of them."""
    versions = {system.name: _version(system) for system in options.systems}
    for number in range(1, options.rounds + 1):
        for name in options.workloads:
            syncs.append(machine.syncs_per_second())
            for system in options.systems:
                if not WORKLOADS[name].fits(system):
                    continue
                start = time.monotonic()
                figures = WORKLOADS[name].run(system)
                took = f"{time.monotonic() - start:.1f} s"
                print(f"round {number}: {name}: {system.name}: {took}", file=sys.stderr)
                for key, value in figures.items():
                    yield Row(number, system.name, versions[system.name], name, key, value)


def _version(system: System) -> str:
    with Session(system, 1) as session:
        return str(session.step("version"))


def _print_json(value: Any, *files: TextIO) -> None:
    for file in files:
        print(json.dumps(value), file=file, flush=True)


def main() -> None:
    """Run what the command line asks for."""
    options = parse()
    RESULTS.mkdir(exist_ok=True)
    here, syncs, rows = machine.describe(), [machine.syncs_per_second()], []
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.jsonl")
    with path.open("w") as file:
        targets = [file, sys.stdout] if options.json else [file]
        for row in measure(options, syncs):
            rows.append(row)
            _print_json(dataclasses.asdict(row), *targets)
        here["fdatasync/s"] = round(statistics.median(syncs))
        _print_json({"machine": here}, *targets)
    if not options.json:
        print(table(rows, options.systems, here))


if __name__ == "__main__":
    main()
