"""Random workflows, parts of them decided at run time, on workers that are killed.

What they tell at their ends runs on a worker that nobody kills, so that it is seen how often it was
sent. The short form runs on RabbitMQ with results on Redis, where messages and workflows are stored
apart; the full one, of ``make chaos``, on every broker.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import dramatiq
from dramatiq import group, pipeline
from dramatiq.composition import WorkflowFailed
from dramatiq.testing.waiting import wait_until
from dramatiq.testing.workflow_random import Failed, evaluate, simplified
from tests.chaos.harness import Site, open_site
from tests.chaos.redis_harness import IS_FULL, SEED, show
from tests.chaos.trees import Tree, open_either
from tests.chaos.workflow_app import declare, make_flow_broker
from tests.rabbitmq import delete_queues

#: Milliseconds for one workflow, and seconds for all that may be left of them.
PATIENCE = 30_000
#: How often workers are killed, and how many workflows run side by side then.
ROUNDS, SIDE_BY_SIDE = (100, 30) if IS_FULL else (4, 12)
BROKERS = ["rabbitmq", "sqlite", "redis"] if IS_FULL else ["rabbitmq"]
#: Kills of a round: a message that dies with two processes waits for ten seconds and more, one that
#: dies with three is given up.
KILLS = 2 if IS_FULL else 1
#: Seconds before each of them, at least and at most.
PAUSE_S = (0.05, 0.4)

policies = st.sampled_from(["fail", "ignore", "value"])
actors = st.sampled_from(["echo", "aecho", "flaky", "handing_on", "forking", "fail"])
#: As `evaluate` takes them.
trees = st.recursive(
    st.tuples(st.just("message"), actors, st.just("fail"), st.none() | policies),
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=4), policies, st.none()),
        st.tuples(st.just("group"), st.lists(inner, max_size=4), policies, st.none() | policies),
    ),
    max_leaves=15,
)


class RabbitmqSite(Site):
    """A site on a RabbitMQ server, with results and workflows on a Redis server."""

    def __init__(self, directory, server, redis_server):
        super().__init__(directory)
        self.database = server.url
        self.results_url = redis_server.url

    @property
    def app_environment(self):
        return {**super().app_environment, "STORM_RESULTS": self.results_url}


@pytest.fixture(params=BROKERS)
def site(request, tmp_path):
    if request.param == "rabbitmq":
        server, redis_server = map(request.getfixturevalue, ("rabbitmq_server", "redis_server"))
        opened = open_site(tmp_path, RabbitmqSite, server=server, redis_server=redis_server)
    else:
        opened = open_either(request, tmp_path, "flows")
    with opened as site:
        yield site


@pytest.fixture
def drawn():
    """The workflows of each round: drawn first, as nothing else may be random meanwhile."""
    rounds = []

    @seed(SEED)
    @settings(
        max_examples=ROUNDS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(trees, min_size=SIDE_BY_SIDE, max_size=SIDE_BY_SIDE))
    def draw(each):
        rounds.append(each)

    draw()
    return rounds


@pytest.fixture
def storm(drawn, site, monkeypatch):
    results_url = getattr(site, "results_url", None)
    broker = make_flow_broker(site.database, results_url, **site.broker_options)
    monkeypatch.setattr(dramatiq.broker, "global_broker", broker)
    storm = Storm(site, broker)
    worker = dramatiq.Worker(broker, queues={"notes"}, worker_timeout=100, worker_threads=1)
    worker.start()
    yield storm
    worker.stop()
    if results_url is not None:
        delete_queues(broker)
    broker.close()


class Storm:
    """A tree of workers, and what to run and to kill there."""

    def __init__(self, site, broker):
        self.broker = broker
        self.told = Counter()
        self.actors = declare(broker, lambda number, word: self.told.update([(number, word)]))
        self.rng = random.Random(SEED)
        self.kills = self.workflows = 0
        self.tree = Tree(
            site,
            processes=2,
            threads=4,
            arguments=("-Q", "default"),
            application="tests.chaos.workflow_app",
        )
        self.tree.wait_until_ready()

    def build(self, tree):
        """Return a tree as a composition."""
        kind, children, failure, own = tree
        if kind == "message":
            message = self.actors[children].message(children)
            return message.if_failed(own) if own else message
        make = pipeline if kind == "chain" else group
        composed = make([self.build(child) for child in children], failure=failure)
        return composed.if_failed(own) if own else composed

    def start(self, tree):
        """Start a workflow that tells its end; return its number and itself."""
        number = self.workflows
        self.workflows += 1
        note = self.actors["note"]
        composed = pipeline(
            [self.build(tree)],
            on_success=note.message(number, "succeeded"),
            on_failure=note.message(number, "failed"),
        )
        return number, composed.run()

    def kill_some(self):
        """Kill children at random moments."""
        for _ in range(KILLS):
            time.sleep(self.rng.uniform(*PAUSE_S))
            if children := self.tree.children():
                with suppress(ProcessLookupError):
                    os.kill(self.rng.choice(children), signal.SIGKILL)
                    self.kills += 1

    def wait_until_drained(self, queue_name):
        queue = self.broker.inspection.queue
        wait_until(lambda: not queue(queue_name).counts.unfinished, timeout_s=PATIENCE / 1000)


def result_of(composed):
    try:
        return simplified(composed.get_result(block=True, timeout=PATIENCE))
    except WorkflowFailed:
        return Failed


def expected_of(tree):
    try:
        return evaluate(("chain", [tree], "fail", None), ())
    except Failed:
        return Failed


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_workflows_come_to_what_they_should_and_tell_it_once(drawn, storm, site, capsys):
    for each in drawn:
        started = [(*storm.start(tree), tree) for tree in each]
        storm.kill_some()

        for number, composed, tree in started:
            expected = expected_of(tree)
            assert expected == result_of(composed), (SEED, tree)
            word = "failed" if expected is Failed else "succeeded"
            wait_until(lambda end=(number, word): storm.told[end], timeout_s=PATIENCE / 1000)
    storm.wait_until_drained("default")
    assert storm.tree.stop() == 0
    storm.wait_until_drained("notes")

    figures = {
        "workflows": storm.workflows,
        "kills": storm.kills,
        "ends told again": storm.told.total() - storm.workflows,
    }
    show(capsys, f"workflow storm on {type(storm.broker).__name__}", figures)
    assert storm.kills
    assert storm.workflows == len(storm.told), SEED
    # Elsewhere what follows is stored in one step with how far the workflow is.
    if type(site) is not RabbitmqSite:
        assert not figures["ends told again"], (SEED, storm.told)
