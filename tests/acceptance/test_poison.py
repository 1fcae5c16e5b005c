"""Messages that bring down whoever runs them, under the real program and a real Redis."""

from __future__ import annotations

import pytest

from dramatiq.brokers.redis import RedisBroker
from tests.acceptance.conftest import eventually

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
