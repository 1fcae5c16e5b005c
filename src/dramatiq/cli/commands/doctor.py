"""`doctor`: look for what is wrong with an application, its broker and this machine."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from ...common import current_millis
from ...errors import BrokerConnectionError
from ...inspection import Finding, InspectionNotSupported, Level
from ..summary import describe_broker, mask_password
from .actors import describe_actor
from .application import add_application_options, load_application, module_names
from .checks import check_actors, check_queues, check_settings, check_time_limits, check_workers
from .environment import describe_environment
from .errors import RET_FAILURE, RET_OK, RET_UNREACHABLE
from .paint import Paint
from .queues import as_json
from .tables import add_json_option, format_table, print_json
from .units import ago

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ...broker import Broker
    from ...inspection import QueueInfo, WorkerInfo

__all__ = ["EPILOG", "add_arguments", "run"]

EPILOG = """\
Exit codes: 0 all is fine, 1 there are problems, 2 wrong usage or the application cannot be
imported, 4 the broker cannot be reached.
"""

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "red"}


@dataclasses.dataclass
class Report:
    """What was found, for `print_json` and for people."""

    environment: dict[str, Any]
    broker: str
    chosen_because: str
    ping_ms: float | None = None
    #: Why the broker cannot be reached.
    error: str | None = None
    queues: list[QueueInfo] = dataclasses.field(default_factory=list)
    workers: list[WorkerInfo] = dataclasses.field(default_factory=list)
    actors: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        if self.error is not None:
            return RET_UNREACHABLE
        has_problem = any(each.level is Level.PROBLEM for each in self.findings)
        return RET_FAILURE if has_problem else RET_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_application_options(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything and print what there is to say."""
    broker = load_application(args)
    names = module_names(args)
    report = Report(
        environment=describe_environment(),
        broker=describe_broker(broker),
        chosen_because=broker.chosen_because or f"the application sets it ({', '.join(names)})",
        actors=[describe_actor(broker.actors[name]) for name in sorted(broker.actors)],
    )
    report.findings += check_settings(os.environ)
    report.findings += check_actors(
        broker.actors.values(), broker.middleware, has_modules=bool(names)
    )
    report.findings += check_time_limits(broker.actors.values())
    try:
        _ask_broker(broker, report)
    except BrokerConnectionError as error:
        report.error = mask_password(" ".join(str(error).split()))
    if args.json:
        print_json(_as_json(report))
    else:
        _print(report, Paint(sys.stdout))
    return report.exit_code


def _ask_broker(broker: Broker, report: Report) -> None:
    inspection = broker.inspection
    try:
        report.queues = inspection.queues()  # connects, too
        started_at = time.perf_counter()
        report.queues = inspection.queues()
        report.ping_ms = (time.perf_counter() - started_at) * 1000
        report.workers = inspection.workers()
    except InspectionNotSupported as error:
        report.findings.append(Finding(Level.NOTE, str(error)))
    served = {actor.queue_name for actor in broker.actors.values()}
    report.findings += check_queues(report.queues, served, has_actors=bool(served))
    if report.ping_ms is not None:
        report.findings += check_workers(report.workers, report.queues)
    report.findings += inspection.diagnose()


def _as_json(report: Report) -> dict[str, Any]:
    now_ms = current_millis()
    return {
        "environment": report.environment,
        "broker": {
            "is": report.broker,
            "chosen_because": report.chosen_because,
            "ping_ms": report.ping_ms,
            "error": report.error,
        },
        "queues": [as_json(each, now_ms) for each in report.queues],
        "actors": report.actors,
        "workers": [dataclasses.asdict(each) for each in report.workers],
        "findings": [
            {"level": each.level.value, "text": each.text}
            for each in sorted(report.findings, key=_gravity)
        ],
        "exit_code": report.exit_code,
    }


def _print(report: Report, paint: Paint) -> None:
    parts = [
        ("Environment", _environment(report)),
        ("Broker", _broker(report)),
        ("Queues", _queues(report)),
        ("Actors", _actors(report)),
        ("Workers", _workers(report)),
    ]
    for title, lines in parts:
        print(paint("bold", title))
        for line in lines:
            print(f"  {line}")
        print()
    print(paint("bold", "Findings"))
    for each in sorted(report.findings, key=_gravity):
        print(f"  {paint(_STYLES[each.level], f'{each.level.value:<8}')} {each.text}")
    problems = sum(each.level is Level.PROBLEM for each in report.findings)
    problems += report.error is not None
    if problems:
        print(paint("red", f"  {problems} problem{'' if problems == 1 else 's'}."))
    else:
        print(paint("green", "  No problems."))


def _gravity(finding: Finding) -> int:
    return [Level.PROBLEM, Level.NOTE, Level.OK].index(finding.level)


def _environment(report: Report) -> Iterator[str]:
    about = report.environment
    yield f"dramatiq {about['dramatiq']}, {about['implementation']} {about['python']}"
    yield about["platform"]
    found = [
        f"{name} {version}" for each in about["extras"].values() for name, version in each.items()
    ]
    yield f"installed for extras: {', '.join(found) or 'nothing'}"
    missing = [name for name, versions in about["extras"].items() if not versions]
    yield f"extras that are not installed: {', '.join(missing) or 'none'}"


def _broker(report: Report) -> Iterator[str]:
    yield report.broker
    yield f"chosen because {report.chosen_because}"
    if report.error is not None:
        yield f"cannot be reached: {report.error}"
    elif report.ping_ms is not None:
        yield f"answers in {report.ping_ms:.2f} ms"


def _queues(report: Report) -> list[str]:
    used: dict[str, list[str]] = {}
    for actor in report.actors:
        used.setdefault(actor["queue"], []).append(actor["name"])
    counts = {each.name: each.counts for each in report.queues}
    rows = []
    for name in sorted({*used, *counts}):
        of = counts.get(name)
        states = [of.ready, of.delayed, of.leased, of.dead] if of else [None] * 4
        rows.append([name, *states, ", ".join(used.get(name, [])) or None])
    if not rows:
        return ["none"]
    return format_table(["QUEUE", "READY", "DELAYED", "LEASED", "DEAD", "ACTORS"], rows)


def _actors(report: Report) -> list[str]:
    if not report.actors:
        return ["none was imported"]
    return [f"{each['name']}{each['signature'] or ''}" for each in report.actors]


def _workers(report: Report) -> list[str]:
    if not report.workers:
        return ["none is registered"]
    now_ms = current_millis()
    rows = [
        [each.worker_id, each.host, each.pid, ago(each.started_at, now_ms), each.is_alive]
        for each in report.workers
    ]
    return format_table(["WORKER", "HOST", "PID", "STARTED", "ALIVE"], rows)
