"""The application of the tests that kill workers amid workflows."""

from __future__ import annotations

import os
import threading
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker, membership
from tests.chaos.program import write_line


def make_broker(url, namespace):
    """Return a broker for which no message is ever poison: here all of them are innocent."""
    if url.startswith("redis:"):
        broker = RedisBroker(url=url, namespace=namespace)
        broker.max_crashes = 1000
        return broker
    if url.startswith("postgresql:"):
        from dramatiq.brokers.postgres import PostgresBroker
        from dramatiq.brokers.postgres import membership as postgres_membership

        postgres_membership.MAX_CRASHES = 1000
        return PostgresBroker(url, schema=namespace)
    membership.MAX_CRASHES = 1000
    return SQLiteBroker(url=url)


class Actors:
    """What random workflows are made of; see `dramatiq.testing.workflow_contract`."""

    def __init__(self, broker, ledger):
        @dramatiq.actor(broker=broker)
        def echo(*given):
            time.sleep(0.04)
            return list(given)

        @dramatiq.actor(broker=broker)
        async def aecho(*given):
            return list(given)

        @dramatiq.actor(broker=broker, max_retries=0)
        def fail(*given):
            raise LookupError(given)

        @dramatiq.actor(broker=broker, queue_name="notes")
        def note(number, word, *given):
            write_line(ledger, word, number)

        @dramatiq.actor(broker=broker)
        def split(*given):
            return dramatiq.group([echo.message("echo", *given)]) | echo.message("split")

        self.split = split
        self.echo, self.aecho, self.fail, self.note = echo, aecho, fail, note


# Collecting doctests imports this file too.
if "FLOW_URL" in os.environ:
    broker = make_broker(os.environ["FLOW_URL"], os.environ.get("FLOW_NAMESPACE", ""))
    dramatiq.set_broker(broker)
    Actors(broker, os.environ["FLOW_LEDGER"])

if __name__ == "__main__":
    # A worker without anybody who replaces it.
    dramatiq.Worker(broker, worker_timeout=100, worker_threads=2).start()
    threading.Event().wait()
