"""The application of the storm on workflows: every step comes to its name and what it was given."""

from __future__ import annotations

import asyncio
import os
import time

import dramatiq
from dramatiq import group, pipeline
from dramatiq.middleware import CurrentMessage
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from tests.chaos.program import make_broker

#: Seconds a step takes, so that a kill finds some at work.
STEP_S = 0.02


def declare(broker, told):
    """Declare the actors on a broker; ``told`` is given what the ends of workflows tell."""

    @dramatiq.actor(broker=broker)
    def echo(word, *given):
        time.sleep(STEP_S)
        return [word, *given]

    @dramatiq.actor(broker=broker)
    async def aecho(word, *given):
        await asyncio.sleep(STEP_S)
        return [word, *given]

    @dramatiq.actor(broker=broker, max_retries=9, min_backoff=1, max_backoff=2)
    def flaky(word, *given):
        if not CurrentMessage.get_current_message().options.get("retries"):
            raise dramatiq.Retry("once", delay=1)
        return [word, *given]

    @dramatiq.actor(broker=broker)
    def handing_on(word, *given):
        return echo.message(word, *given)

    @dramatiq.actor(broker=broker)
    def forking(word, *given):
        parts = [aecho.message(each) for each in (word, *given)]
        return pipeline([group(parts, broker=broker), joining.message()], broker=broker)

    @dramatiq.actor(broker=broker)
    def joining(parts):
        return [each for [each] in parts]

    @dramatiq.actor(broker=broker, max_retries=0, throws=(ValueError,))
    def fail(word, *given):
        time.sleep(STEP_S)
        raise ValueError(word)

    @dramatiq.actor(broker=broker, queue_name="notes")
    def note(number, word, value):
        told(number, word)

    actors = (echo, aecho, flaky, handing_on, forking, joining, fail, note)
    return {each.actor_name: each for each in actors}


def make_flow_broker(url, results_url=None, **options):
    """Return a broker; workflows are with the results, if there are any."""
    broker = make_broker(url, **options)
    if results_url is not None:
        backend = RedisBackend(url=results_url, namespace="storm-results")
        broker.add_middleware(Results(backend=backend))
    return broker


if "STORM_DATABASE" in os.environ:  # not in the process of the tests
    app_broker = make_flow_broker(os.environ["STORM_DATABASE"], os.environ.get("STORM_RESULTS"))
    dramatiq.set_broker(app_broker)
    declare(app_broker, lambda number, word: None)
