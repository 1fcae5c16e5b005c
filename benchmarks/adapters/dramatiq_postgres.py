"""This library on its PostgreSQL broker, with its default middleware."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.postgres import PostgresBroker

from . import driver

if TYPE_CHECKING:
    from collections.abc import Sequence

MARKS = driver.marks()

broker = PostgresBroker(driver.url())
dramatiq.set_broker(broker)


@dramatiq.actor
def no_op(index: int) -> None:
    """Do nothing but leave a mark."""
    MARKS.mark(index)


@dramatiq.actor
async def nap(index: int) -> None:
    """Wait for a second, as for a slow server."""
    await asyncio.sleep(1)
    MARKS.mark(index)


@dramatiq.actor
def doze(index: int, seconds: float) -> None:
    """Wait, as for a server, with code written for threads."""
    time.sleep(seconds)
    MARKS.mark(index)


@dramatiq.actor
def hello() -> None:
    """Show that this process works."""
    driver.greeting(MARKS)


def version() -> str:
    """Return the version of the system."""
    return dramatiq.__version__


def send(index: int) -> None:
    """Enqueue one no-op."""
    no_op.send(index)


def send_many(indices: Sequence[int]) -> None:
    """Enqueue many no-ops in one call."""
    no_op.send_many([(index,) for index in indices])


def nap_many(indices: Sequence[int]) -> None:
    """Enqueue many tasks that wait for a second each."""
    nap.send_many([(index,) for index in indices])


def doze_many(indices: Sequence[int], seconds: float) -> None:
    """Enqueue many tasks that block for so long."""
    doze.send_many([(index, seconds) for index in indices])


def greet() -> None:
    """Enqueue one greeting."""
    hello.send()


def commands(processes: int, threads: int) -> list[list[str]]:
    """Return the command that starts the workers."""
    command = driver.dramatiq_command(__name__, processes, threads)
    return [command + driver.our_options()]
