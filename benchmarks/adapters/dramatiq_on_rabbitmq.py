"""What this library and the Dramatiq it stands in for have in common on RabbitMQ.

Each runs it with the ``dramatiq`` of its own environment. Deliveries are confirmed by both.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pika  # type: ignore[import-untyped]

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from . import driver

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SETTINGS", "broker", "command", "fill", "greet", "nap_many", "no_op", "send", "version"]

SETTINGS = driver.settings()
MARKS = driver.marks()

BODY = (
    '{{"queue_name":"default","actor_name":"no_op","args":[{index}],"kwargs":{{}},'
    '"options":{{}},"message_id":"{key}","message_timestamp":0}}'
)

broker = RabbitmqBroker(url=driver.url(), confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor
def no_op(index: int) -> None:
    """Do nothing but leave a mark."""
    MARKS.mark(index)


@dramatiq.actor
async def nap(index: int, seconds: float) -> None:
    """Wait, as for a server."""
    await asyncio.sleep(seconds)
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


def fill(indices: Sequence[int]) -> None:
    """Enqueue many no-ops, as any program may."""
    broker.declare_queue("default", ensure=True)
    properties = pika.BasicProperties(delivery_mode=2)
    with closing(pika.BlockingConnection(pika.URLParameters(driver.url()))) as connection:
        channel = connection.channel()
        for index in indices:
            body = BODY.format(index=index, key=uuid.uuid4()).encode()
            channel.basic_publish("", "default", body, properties)
        # It answers once it has read all that came before.
        channel.queue_declare("default", passive=True)


def nap_many(indices: Sequence[int], seconds: float = 1.0) -> None:
    """Enqueue many tasks that wait, for a second each by default."""
    for index in indices:
        nap.send(index, seconds)


def greet() -> None:
    """Enqueue one greeting."""
    hello.send()


def command(module: str, processes: int, threads: int) -> list[str]:
    """Return the command that starts workers."""
    return [sys.executable, "-m", "dramatiq", module, "-p", str(processes), "-t", str(threads)]
