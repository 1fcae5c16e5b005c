"""The program around the work: it plans, has the workers do it, waits, and prints.

It may be killed at any instant, alone or with its workers. What is to be done is planned in one
transaction; from then on the next run goes by one rule: when a queue is empty and something is
still missing, that is sent (again). So nothing is lost, and nothing needs to be remembered about
what was sent before.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import sysconfig
import time
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .actors import broker, folder, send_files, send_reduction, store
from .progress import Progress
from .workers import SurveyError, Workers, lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Options", "run"]

#: Folders that are not part of a source tree.
NOT_SOURCES = frozenset({"__pycache__", "site-packages", "dist-packages"})
#: Seconds between two looks at what is done.
LOOK_INTERVAL_S = 0.2
#: How often missing work is sent before something must be wrong with it.
MAX_SENDINGS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    #: The tree to survey; None for the standard library of the running Python.
    source: Path | None
    #: Whether to forget an unfinished survey.
    fresh: bool
    processes: int
    threads: int
    #: Seconds after which the survey is given up; it can be continued then.
    timeout_s: float


@dataclasses.dataclass(frozen=True)
class Phase:
    """Work that must be complete before the next begins."""

    label: str
    queue_name: str
    #: Sends what is missing.
    send: Callable[[], None]
    #: Returns how much is done, and how much there is.
    count: Callable[[], tuple[int, int]]


def run(options: Options) -> None:
    """Survey the sources, or finish a survey that was interrupted, and print the report.

    Raises:
        SurveyError: If that cannot be done.
    """
    descriptor = lock(folder)
    prepare(options)
    # There is a report already when a run was killed between its last step and showing it.
    throughput = work(options, descriptor) if store.get("report") is None else None
    print_report()
    if throughput:
        print(f"Throughput: {throughput}")
    print_failures()
    store.set("finished", "yes")
    broker.close()


# -- planning


def prepare(options: Options) -> None:
    """Go on with the survey in the folder, or plan a new one."""
    title, root = _subject(options.source)
    if store.get("finished"):
        print("The last survey here is finished. Starting a new one.")
        store.clear()
    elif options.fresh:
        store.clear()
    if store.get("root") is None:
        _plan(title, root)
        print(f"{title}: {store.count_files()[1]:,} files to measure.")
        return
    if (title, str(root)) != (store.get("title"), store.get("root")):
        raise SurveyError(
            f"{folder} holds an unfinished survey of {store.get('root')}. Finish it first, forget "
            "it with --fresh, or choose another --folder."
        )
    done, total = store.count_files()
    print(f"{title}, continuing: {done:,} of {total:,} files done.")


def _subject(source: Path | None) -> tuple[str, Path]:
    if source is not None:
        return f"Sources in {source.name}", source
    root = Path(sysconfig.get_path("stdlib")).resolve()
    return f"The standard library of Python {platform.python_version()}", root


def _plan(title: str, root: Path) -> None:
    # Without a plan, messages and a report are what is left of another survey. Nobody has the
    # broker's file open: we hold the lock, and have not used the broker yet.
    for leftover in (*folder.glob("dramatiq.db*"), folder / "report.txt", folder / "workers.log"):
        leftover.unlink(missing_ok=True)
    paths = list(find_sources(root))
    if not paths:
        raise SurveyError(f"There are no Python sources in {root}.")
    store.plan(title, root, paths)


def find_sources(root: Path) -> Iterator[PurePosixPath]:
    """Yield the Python sources below a folder, relative to it."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - NOT_SOURCES)
        for name in sorted(names):
            if name.endswith(".py"):
                yield PurePosixPath(Path(parent, name).relative_to(root).as_posix())


# -- working


def work(options: Options, lock_descriptor: int) -> str:
    """Have the workers do all that is missing; return how fast they were, in words."""
    files = Phase("measuring files", "measure", send_files, store.count_files)
    reduction = Phase("reducing packages", "report", send_reduction, _count_reduction)
    deadline_s = time.monotonic() + options.timeout_s
    with Workers(
        folder, processes=options.processes, threads=options.threads, lock=lock_descriptor
    ) as workers:
        started_at_s = time.monotonic()
        done = complete(files, workers, deadline_s)
        elapsed_s = time.monotonic() - started_at_s
        complete(reduction, workers, deadline_s)
    return (
        f"{done:,} files in {elapsed_s:.1f} s, {done / elapsed_s:,.0f}/s "
        f"({options.processes} processes with {options.threads} threads each)"
    )


def complete(phase: Phase, workers: Workers, deadline_s: float) -> int:
    """Have a phase completed; return how much of it was done meanwhile."""
    done_before, total = phase.count()
    progress = Progress(phase.label, total, done_before)
    sendings = 0
    try:
        while True:
            # First the queue, then the findings: what has left the queue is among them.
            is_idle = broker.queue_counts(phase.queue_name).unfinished == 0
            done, total = phase.count()
            progress.update(done)
            if done == total:
                return done - done_before
            if is_idle:
                sendings += 1
                _send(phase, sendings)
            workers.check()
            if time.monotonic() > deadline_s:
                raise SurveyError("Not finished in time. Run this again to continue.")
            time.sleep(LOOK_INTERVAL_S)
    finally:
        progress.finish()


def _send(phase: Phase, sendings: int) -> None:
    if sendings > MAX_SENDINGS:
        reasons = {letter.reason for letter in broker.dead_letters(phase.queue_name)}
        raise SurveyError(
            f"Stuck while {phase.label}: sent {MAX_SENDINGS} times and still not complete. "
            f"Dead letters: {'; '.join(sorted(reasons)) or 'none'}."
        )
    phase.send()


def _count_reduction() -> tuple[int, int]:
    """Count the packages, and the report as one more."""
    done = store.count_summaries() + (store.get("report") is not None)
    return done, len(store.packages()) + 1


# -- printing


def print_report() -> None:
    """Print the report, and write it into the folder."""
    report = store.get("report")
    (folder / "report.txt").write_text(f"{report}\n", encoding="utf-8")
    print(f"\n{report}\n")


def print_failures() -> None:
    """Print how often files were tried again, and the dead letters by their reasons."""
    print(f"Retries: {store.count_retries():,}")
    letters = broker.dead_letters("measure", limit=broker.queue_counts("measure").dead)
    print(f"Dead letters: {len(letters):,}")
    reasons = Counter(_without_place(letter.reason) for letter in letters)
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count} x {reason}")
    print(f"\nEverything is in {folder}: report.txt, workers.log, findings.db, dramatiq.db")


def _without_place(reason: str) -> str:
    """Cut off where the error is, so that errors of one kind can be counted together."""
    return re.sub(r" \([^()]+, line \d+\)$", "", reason)
