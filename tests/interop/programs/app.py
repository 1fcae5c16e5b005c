"""An application as its users write it: the same lines for the published 2.x and for this library.

What is different between two runs of it stands in the environment. Actors write to a ledger, each
line in one append, which survives the death of its writer.
"""

from __future__ import annotations

import os
import time

from redis.backoff import NoBackoff
from redis.retry import Retry

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage, GroupCallbacks
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as ResultBackend

PORT = int(os.environ.get("APP_PORT", "6379"))
NAMESPACE = os.environ.get("APP_NAMESPACE", "dramatiq")
LEDGER = os.environ.get("APP_LEDGER", "ledger")
FLEET = os.environ.get("APP_FLEET", "")

SERVER = {
    "host": "127.0.0.1",
    "port": PORT,
    "socket_timeout": float(os.environ.get("APP_TIMEOUT", "2")),
}
if "APP_RETRIES" in os.environ:
    # Up to redis-py 5 clients do not try again by themselves; newer ones do so three times.
    SERVER["retry"] = Retry(NoBackoff(), int(os.environ["APP_RETRIES"]))
if "APP_USER" in os.environ:
    SERVER |= {"username": os.environ["APP_USER"], "password": "secret"}

limits = LimiterBackend(**SERVER)
results = ResultBackend(**SERVER, namespace=f"{NAMESPACE}-results")
broker = RedisBroker(
    **SERVER,
    namespace=NAMESPACE,
    heartbeat_timeout=int(os.environ.get("APP_HEARTBEAT", "60000")),
    maintenance_chance=int(os.environ.get("APP_MAINTENANCE", "1000")),
)
broker.add_middleware(CurrentMessage())
broker.add_middleware(GroupCallbacks(limits))
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)


def write_line(kind, number):
    line = f"{kind} {number} {FLEET} {os.getpid()} {time.time_ns()}\n"
    descriptor = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dramatiq.actor
def work(number, duration_ms=0):
    write_line("start", number)
    time.sleep(duration_ms / 1000)
    write_line("end", number)


@dramatiq.actor(min_backoff=200, max_backoff=400)
def fail_twice(number):
    write_line("start", number)
    if CurrentMessage.get_current_message().options.get("retries", 0) < 2:
        raise RuntimeError(number)
    write_line("end", number)


@dramatiq.actor(max_retries=1, min_backoff=10, max_backoff=20)
def give_up(number):
    write_line("start", number)
    raise RuntimeError(number)


@dramatiq.actor(store_results=True)
def square(number):
    return number * number


@dramatiq.actor(store_results=True, max_retries=0)
def explode(number):
    raise LookupError(f"no {number}")


@dramatiq.actor(min_backoff=10, max_backoff=50, max_retries=None)
def take_turns(number):
    with ConcurrentRateLimiter(limits, f"{NAMESPACE}-turn").acquire():
        write_line("start", number)
        time.sleep(0.005)
        write_line("end", number)


@dramatiq.actor(queue_name="left")
def add_left(amount, number):
    write_line("left", number)
    return number + amount


@dramatiq.actor(queue_name="right")
def add_right(amount, number):
    write_line("right", number)
    return number + amount


@dramatiq.actor(queue_name="right", store_results=True)
def finish(number):
    write_line("end", number)
    return number


@dramatiq.actor
def call_back(number):
    write_line("called_back", number)
