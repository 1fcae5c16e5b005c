"""Huey on SQLite. It takes a message off its queue before running it: what runs in a crash is lost.

Its defaults sync every write. The variant "best" turns off all that its documentation lets one
turn off for speed: syncing, stored results, log lines, health checks; and it polls more often.
"""

# Huey is installed in an environment of its own, and has no types.
# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING

from huey import SqliteHuey

from . import driver

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = driver.settings()
MARKS = driver.marks()

huey = SqliteHuey(filename=str(driver.store()), **SETTINGS.get("storage", {}))


@huey.task()
def no_op(index: int) -> None:
    """Do nothing but leave a mark."""
    MARKS.mark(index)


@huey.task()
def hello() -> None:
    """Show that this process works."""
    driver.greeting(MARKS)


def version() -> str:
    """Return the version of the system."""
    return importlib.metadata.version("huey")


def send(index: int) -> None:
    """Enqueue one no-op."""
    no_op(index)


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops; `map` is the way it documents, and enqueues them one by one."""
    no_op.map(indices)


def fill(indices: Sequence[int]) -> None:
    """Enqueue many no-ops past its interface, in one transaction, where that is not measured."""
    rows = [(huey.name, huey.serialize_task(no_op.s(index))) for index in indices]
    with huey.storage.db(commit=True) as cursor:
        cursor.executemany("INSERT INTO task (queue, data) VALUES (?, ?)", rows)


def greet() -> None:
    """Enqueue one greeting."""
    hello()


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the commands that start the workers: one consumer per process."""
    consumer = [sys.executable, "-m", "huey.bin.huey_consumer", f"{__name__}.huey"]
    options = ["-k", "thread", "-w", str(threads), *SETTINGS.get("consumer", [])]
    return [consumer + options] * processes
