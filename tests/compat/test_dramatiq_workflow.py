"""The published package dramatiq-workflow, unmodified: its own tests, and what it is for."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import dramatiq
from dramatiq import rate_limits
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.rate_limits.backends import RedisBackend, SQLiteBackend
from dramatiq.testing.waiting import wait_until

#: Seconds for its own tests.
TIMEOUT_S = 60


def test_its_own_tests_pass():
    code = "import dramatiq, dramatiq_workflow.tests as t; print(dramatiq.__file__, t.__path__[0])"
    ours, folder = run("-c", code).stdout.split()
    modules = [
        f"dramatiq_workflow.tests.{each.name}"
        for each in pkgutil.iter_modules([folder])
        if each.name.startswith("test_")
    ]

    finished = run("-m", "unittest", *modules)

    assert ours == dramatiq.__file__
    assert finished.returncode == 0, finished.stderr
    count = re.search(r"^Ran (\d+) tests", finished.stderr, re.MULTILINE)
    assert int(count[1]) >= 25, version("dramatiq-workflow")


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "DRAMATIQ_BROKER_URL": "stub://"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(params=["sqlite", "redis"])
def broker_and_limits(request, tmp_path):
    if request.param == "sqlite":
        path = tmp_path / "dramatiq.db"
        broker, limits = SQLiteBroker(path), SQLiteBackend(path=path)
        yield broker, limits
        broker.close()
        limits.database.close()
    else:
        url = request.getfixturevalue("redis_server").url
        namespace = f"workflow-{tmp_path.name}"
        broker, limits = RedisBroker(url=url, namespace=namespace), RedisBackend(url=url)
        yield broker, limits
        broker.close()
        broker.client.close()
        limits.client.close()


def test_chains_and_groups_nest_and_run_in_order(broker_and_limits, running, monkeypatch):
    broker, limits = broker_and_limits
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    # Declares an actor on the process-wide broker.
    from dramatiq_workflow import Chain, Group, WithDelay, Workflow, WorkflowMiddleware

    broker.add_middleware(WorkflowMiddleware(limits))
    ended = []

    @dramatiq.actor
    def step(name):
        ended.append(name)

    inner = Group(step.message("e"), Chain(step.message("f"), step.message("g")))
    outer = Group(Chain(step.message("b"), inner), Chain(), step.message("c"))
    delayed = WithDelay(step.message("h"), delay=200)

    with running(broker):
        broker.emit_after("process_boot")
        Workflow(Chain(step.message("a"), outer, delayed, step.message("i"))).run()
        wait_until(lambda: "i" in ended)

    assert sorted(ended) == list("abcefghi")
    for before, after in ["ab", "ac", "be", "bf", "fg", "gh", "eh", "ch", "hi"]:
        assert ended.index(before) < ended.index(after)


def test_the_barriers_it_is_built_on_are_those_of_this_library(broker_and_limits):
    from dramatiq_workflow._barrier import AtMostOnceBarrier

    _, limits = broker_and_limits
    barrier = AtMostOnceBarrier(limits, "barrier")
    barrier.create(2)

    assert isinstance(barrier, rate_limits.Barrier)
    assert [barrier.wait(block=False) for _ in range(3)] == [False, True, False]
