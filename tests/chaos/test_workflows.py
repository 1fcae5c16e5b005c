"""Kill workers at random moments amid random workflows: each comes to what it should, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

import dramatiq
from dramatiq.composition import WorkflowFailed, group, pipeline
from dramatiq.testing.waiting import wait_until
from dramatiq.testing.workflow_random import Failed, evaluate, simplified
from tests.chaos.flow_app import Actors, make_broker
from tests.chaos.redis_harness import IS_FULL, SEED, show

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

WORKFLOWS, KILLS = (1000, 100) if IS_FULL else (50, 5)
PAUSE_S = (0.2, 0.6)


class Site:
    """A broker, and worker processes with a main process that replaces those that die."""

    def __init__(self, url, namespace, directory):
        self.ledger = directory / "ledger"
        self.broker = make_broker(url, namespace)
        self.actors = Actors(self.broker, self.ledger)
        self.killed = []
        environment = {
            **os.environ,
            "FLOW_URL": url,
            "FLOW_NAMESPACE": namespace,
            "FLOW_LEDGER": str(self.ledger),
        }
        with (directory / "log").open("wb") as log:
            self.main = subprocess.Popen(
                [*(sys.executable, "-m", "dramatiq", "tests.chaos.flow_app"), "-p2", "-t4"],
                cwd=Path(__file__).parents[2],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def children(self):
        path = Path(f"/proc/{self.main.pid}/task/{self.main.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill_one(self, rng):
        if children := self.children():
            victim = rng.choice(children)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            self.killed.append(victim)

    def notes(self):
        """Return for each workflow what was noted, and by which process."""
        notes = {}
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        for line in lines:
            word, number, pid, _ = line.split()
            notes.setdefault(int(number), []).append((word, int(pid)))
        return notes

    def close(self):
        with suppress(ProcessLookupError):
            os.killpg(self.main.pid, signal.SIGKILL)
        self.main.wait()
        self.broker.close()
        if hasattr(self.broker, "client"):
            self.broker.client.close()


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def site(request, tmp_path, monkeypatch):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/flows.db"
    else:
        url = request.getfixturevalue(f"{request.param}_server").url
    site = Site(url, f"flows_{uuid.uuid4().hex[:8]}", tmp_path)
    monkeypatch.setattr(dramatiq.broker, "global_broker", site.broker)
    yield site
    site.close()


def random_tree(rng, depth=3):
    kind = "message" if not depth else rng.choice(["message", "chain", "group"])
    own = rng.choice([None, None, "fail", "ignore", "value"])
    if kind == "message":
        return kind, rng.choice(["echo", "echo", "echo", "aecho", "fail"]), "fail", own
    children = [random_tree(rng, depth - 1) for _ in range(rng.randint(kind == "chain", 4))]
    return kind, children, rng.choice(["fail", "ignore", "value"]), own


def build(actors, tree):
    kind, children, failure, own = tree
    if kind == "message":
        composed = getattr(actors, children).message(children)
    else:
        make = pipeline if kind == "chain" else group
        composed = make([build(actors, child) for child in children], failure=failure)
    return composed.if_failed(own) if own else composed


def test_killed_workers_change_nothing_about_what_workflows_come_to(site, capsys):
    rng = random.Random(SEED)
    trees = [("chain", [random_tree(rng)], "fail", "fail") for _ in range(WORKFLOWS)]
    running = []
    for number, tree in enumerate(trees):
        composed = build(site.actors, tree)
        composed.on_success = site.actors.note.message(number, "succeeded")
        composed.on_failure = site.actors.note.message(number, "failed")
        running.append(composed.run())

    for _ in range(KILLS):
        time.sleep(rng.uniform(*PAUSE_S))
        site.kill_one(rng)

    started_at = time.monotonic()
    for tree, composed in zip(trees, running, strict=True):
        assert expected_of(tree) == result_of(composed), (SEED, tree)
    wait_until(lambda: len(site.notes()) == WORKFLOWS, timeout_s=60)
    wait_until(lambda: site.broker.queue_counts("notes").unfinished == 0, timeout_s=60)
    repeated = check_notes(site, trees)
    figures = {
        "workflows": WORKFLOWS,
        "kills": len(site.killed),
        "notes run again after a kill": repeated,
        "seconds after the last kill": round(time.monotonic() - started_at, 1),
    }
    show(capsys, f"workflows on {type(site.broker).__name__}", figures)


def expected_of(tree):
    try:
        return evaluate(tree, ())
    except Failed:
        return "failed"


def result_of(composed):
    try:
        return simplified(composed.get_result(block=True, timeout=120_000))
    except WorkflowFailed:
        return "failed"


def check_notes(site, trees):
    """Check that each workflow noted its end once; a note that was killed may have run again."""
    repeated = 0
    for number, tree in enumerate(trees):
        notes = site.notes()[number]
        word = "failed" if expected_of(tree) == "failed" else "succeeded"
        assert {word} == {noted for noted, _ in notes}, (SEED, tree)
        survived = [pid for _, pid in notes if pid not in site.killed]
        assert len(survived) <= 1, (SEED, tree)
        repeated += len(notes) - 1
    return repeated
