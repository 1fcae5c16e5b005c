"""Messages that bring down whoever runs them, under the real program and a real Redis."""

from __future__ import annotations

import pytest

from dramatiq.brokers.redis import RedisBroker
from tests.acceptance.conftest import eventually
from tests.rabbitmq import delete_queues, read_all

MODULE = """
import ctypes, os, time
import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url={url!r}, namespace={namespace!r}))


@dramatiq.actor
def leave():
    os._exit(0)


@dramatiq.actor
async def crash():
    ctypes.string_at(0)


@dramatiq.actor
def write(number):
    time.sleep(0.01)
    with open("written", "a") as file:
        file.write(f"{{number}}\\n")
"""


@pytest.fixture
def broker(redis_server, request):
    broker = RedisBroker(url=redis_server.url, namespace=f"poison-{request.node.name}")
    yield broker
    broker.close()
    broker.client.close()


@pytest.mark.parametrize("actor_name", ["leave", "crash"])
def test_a_message_that_kills_three_processes_is_dead_and_the_others_run(
    broker, redis_server, write_module, run, tmp_path, actor_name
):
    path = write_module(
        "app", MODULE.format(url=redis_server.url, namespace=broker.namespace), preamble=""
    )
    namespace = {}
    exec(compile(path.read_text(), "app", "exec"), namespace)  # noqa: S102 (written above)
    actors = namespace["write"].broker.actors
    actors[actor_name].send()
    actors["write"].send_many([(number,) for number in range(50)])

    program = run("app", "-p", "2", "-t", "2")

    [letter] = eventually(lambda: broker.dead_letters("default"), "the message is dead")
    eventually(lambda: not broker.queue_counts("default").unfinished, "the others have run")
    assert letter.reason == "poison: 3 processes died while they ran it"
    assert actor_name.encode() in letter.payload
    assert set(map(int, (tmp_path / "written").read_text().split())) == set(range(50))
    deaths = program.output.count("exited with code 0") + program.output.count("killed by SIGSEGV")
    assert deaths == 3
    assert program.stop() == 0
    namespace["write"].broker.close()


RABBITMQ_MODULE = """
import os
import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

dramatiq.set_broker(RabbitmqBroker(url={url!r}))


@dramatiq.actor(queue_name="poison")
def leave():
    os._exit(0)


@dramatiq.actor(queue_name="poison")
def write(number):
    with open("written", "a") as file:
        file.write(f"{{number}}\\n")
"""


def test_rabbitmq_too_stops_delivering_a_message_that_kills_whoever_runs_it(
    rabbitmq_server, write_module, run, tmp_path
):
    # Ten seconds after the second crash, in real life.
    text = RABBITMQ_MODULE.format(url=rabbitmq_server.url)
    text += "from dramatiq.brokers.rabbitmq import consumer, topology\n"
    text += "consumer.CRASH_DELAYS_MS = topology.CRASH_DELAYS_MS = (100, 200)\n"
    path = write_module("app", text, preamble="")
    namespace = {}
    exec(compile(path.read_text(), "app", "exec"), namespace)  # noqa: S102 (written above)
    broker = namespace["write"].broker
    broker.flush("poison")
    namespace["leave"].send()
    namespace["write"].send_many([(number,) for number in range(50)])

    program = run("app", "-p", "2", "-t", "2")

    [(body, properties)] = eventually(lambda: read_all(broker, "poison.XQ"), "the message is dead")
    assert b'"leave"' in body
    headers = properties.headers
    assert headers["x-dramatiq-reason"] == "poison: 3 processes died while they ran it"
    eventually(
        lambda: broker.get_queue_message_counts("poison") == (0, 0, 1), "the others have run"
    )
    assert set(map(int, (tmp_path / "written").read_text().split())) == set(range(50))
    assert program.output.count("exited with code 0") == 3
    assert program.stop() == 0
    delete_queues(broker)
    broker.close()
