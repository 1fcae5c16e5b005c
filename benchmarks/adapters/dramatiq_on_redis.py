"""What this library and the Dramatiq it stands in for have in common: actors, middleware, worker.

Each runs it with the ``dramatiq`` of its own environment.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from . import driver
from .redis_wire import fill
from .redis_wire import send as send_foreign

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SETTINGS", "ask", "broker", "doze_many", "fill", "greet", "nap_many", "no_op", "send"]
__all__ += ["send_foreign", "version"]

#: Milliseconds to wait for one result.
RESULT_TIMEOUT_MS = 60_000

SETTINGS = driver.settings()
MARKS = driver.marks()

broker = RedisBroker(url=driver.url())
if "results" in SETTINGS:
    from dramatiq.results import Results
    from dramatiq.results.backends.redis import RedisBackend

    broker.add_middleware(Results(backend=RedisBackend(url=driver.url())))
dramatiq.set_broker(broker)

#: Without its middleware the option is unknown.
RESULT_OPTIONS: dict[str, Any] = {"store_results": True} if "results" in SETTINGS else {}


@dramatiq.actor
def no_op(index: int) -> None:
    """Do nothing but leave a mark."""
    MARKS.mark(index)


@dramatiq.actor(**RESULT_OPTIONS)
def echo(index: int) -> int:
    """Leave a mark and return the index."""
    MARKS.mark(index)
    return index


@dramatiq.actor
async def nap(index: int, seconds: float) -> None:
    """Wait, as for a server."""
    await asyncio.sleep(seconds)
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


def ask(index: int) -> Any:
    """Enqueue one message and return a function that waits for its result."""
    message = echo.send(index)
    return lambda: message.get_result(block=True, timeout=RESULT_TIMEOUT_MS)


def nap_many(indices: Sequence[int], seconds: float = 1.0) -> None:
    """Enqueue many tasks that wait, for a second each by default."""
    for index in indices:
        nap.send(index, seconds)


def doze_many(indices: Sequence[int], seconds: float) -> None:
    """Enqueue many tasks that block for so long."""
    for index in indices:
        doze.send(index, seconds)


def greet() -> None:
    """Enqueue one greeting."""
    hello.send()
