"""Workers die at each step between the end of a message and what follows in its workflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dramatiq
from dramatiq.composition import group, pipeline
from dramatiq.testing.waiting import wait_until
from tests.chaos.flow_app import Actors, make_broker
from tests.chaos.redis_harness import IS_FULL

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(150)]

STEPS = [
    "workflows.advance.before=kill@1",
    "workflows.send.before=kill@1",
    "workflows.send.after=kill@1",
    "workflows.climb.before=kill@1",
    "workflows.finish.before=kill@1",
    "workflows.write.before_last=kill@1",
]
if IS_FULL:
    STEPS += [each.replace("kill@1", "kill@3") for each in STEPS]
    STEPS += [each.replace("kill", "raise") for each in STEPS]


#: Most workflows that are on their way.
BACKLOG = 20


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/flows.db", ""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_server").url, "crashes"
    return request.getfixturevalue("redis_server").url, f"crashes-{tmp_path.name}"


@pytest.fixture
def site(place, tmp_path, monkeypatch):
    broker = make_broker(*place)
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    yield broker, Actors(broker, tmp_path / "ledger")
    broker.close()
    if hasattr(broker, "client"):
        broker.client.close()


@pytest.fixture
def workers(place, tmp_path):
    """One that does not fail, and one for each step at which it does."""
    url, namespace = place
    processes = {}
    for failpoint in ["", *STEPS]:
        environment = {
            **os.environ,
            "DRAMATIQ_FAILPOINTS": failpoint,
            "FLOW_URL": url,
            "FLOW_NAMESPACE": namespace,
            "FLOW_LEDGER": str(tmp_path / "ledger"),
        }
        processes[failpoint] = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.flow_app"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


def start_one(actors, number):
    echo = actors.echo
    inner = group([echo.message("a"), echo.message("b") | actors.split.message(), group([])])
    note = actors.note.message(number, "end")
    return pipeline([echo.message("start"), inner, echo.message("end")], on_success=note).run()


def test_every_workflow_comes_to_its_end_once(site, workers, tmp_path):
    _, actors = site
    running = []

    def all_have_died():
        # As long as some have not had the chance to; but no more than can soon be done.
        if len(running) < BACKLOG or running[-BACKLOG].completed:
            running.append(start_one(actors, len(running)))
        killed = [each for step, each in workers.items() if "kill" in step]
        return all(each.poll() == -signal.SIGKILL for each in killed)

    wait_until(all_have_died, timeout_s=90)

    start = ["start"]
    split = ["split", [["echo", ["b", start]]]]
    expected = ["end", [["a", start], split, []]]
    for composed in running:
        assert expected == composed.get_result(block=True, timeout=60_000)
    wait_until(lambda: len(noted(tmp_path)) == len(running), timeout_s=30)
    # To run twice takes a death between the end of a note and its settlement.
    dead = {each.pid for each in workers.values() if each.poll() is not None}
    for pids in noted(tmp_path).values():
        assert len([pid for pid in pids if pid not in dead]) <= 1


def noted(directory):
    """Return the processes that noted the end of each workflow."""
    ledger, notes = directory / "ledger", {}
    for line in ledger.read_text().splitlines() if ledger.exists() else ():
        _, number, pid, _ = line.split()
        notes.setdefault(number, []).append(int(pid))
    return notes
