"""The application on RabbitMQ: the same lines for the published 2.x and for this library."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import CurrentMessage

PORT = int(os.environ.get("APP_PORT", "5672"))
QUEUE = os.environ.get("APP_QUEUE", "default")
LEDGER = os.environ.get("APP_LEDGER", "ledger")
FLEET = os.environ.get("APP_FLEET", "")

broker = RabbitmqBroker(
    host="127.0.0.1",
    port=PORT,
    confirm_delivery=True,
    max_priority=int(os.environ["APP_PRIORITIES"]) if "APP_PRIORITIES" in os.environ else None,
)
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


def write_line(kind, number):
    line = f"{kind} {number} {FLEET} {os.getpid()} {time.time_ns()}\n"
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dramatiq.actor(queue_name=QUEUE)
def work(number, duration_ms=0):
    write_line("start", number)
    time.sleep(duration_ms / 1000)
    write_line("end", number)


@dramatiq.actor(queue_name=QUEUE, min_backoff=200, max_backoff=400)
def fail_twice(number):
    write_line("start", number)
    if CurrentMessage.get_current_message().options.get("retries", 0) < 2:
        raise RuntimeError(number)
    write_line("end", number)


@dramatiq.actor(queue_name=QUEUE, max_retries=1, min_backoff=10, max_backoff=20)
def give_up(number):
    write_line("start", number)
    raise RuntimeError(number)


@dramatiq.actor(queue_name=QUEUE)
def add(amount, number):
    write_line("add", number)
    return number + amount


@dramatiq.actor(queue_name=QUEUE)
def finish(number):
    write_line("end", number)
