"""A RabbitMQ cluster with quorum queues, whose nodes are killed while messages flow."""

from __future__ import annotations

import time
from itertools import cycle

import pytest

from tests.chaos.harness import open_site
from tests.chaos.rabbitmq_harness import ClusterSite, figures_of
from tests.chaos.redis_harness import IS_FULL, now_ns, show
from tests.rabbitmq_cluster import RabbitmqCluster

#: Messages, and how many of them each of two producers sends per second.
MESSAGES, PER_SECOND = (50_000, 400) if IS_FULL else (1_000, 200)
#: How many processes work.
WORKERS = 4 if IS_FULL else 1
#: Seconds between the moment at which every queue can do without a node and the next kill.
BETWEEN_KILLS_S = 3.0
#: Seconds in which something must end, whichever node is gone.
SILENCE_BOUND_S = 15.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(tmp_path):
    cluster = RabbitmqCluster(tmp_path / "cluster")
    try:
        yield cluster.start()
    finally:
        cluster.close()


def test_nodes_of_a_cluster_that_are_killed_one_after_the_other_lose_nothing(
    tmp_path, cluster, capsys
):
    with open_site(tmp_path / "site", ClusterSite, cluster=cluster) as site:
        for _ in range(WORKERS):
            site.start_worker(threads=4)
        share = MESSAGES // 2
        producers = [
            site.start("produce", number * share, share, 0, PER_SECOND) for number in range(2)
        ]
        site.wait_until(lambda: site.ledger.count("end") > 100, "work has begun")

        resumed = kill_in_turn(cluster.nodes, site, producers) if IS_FULL else []
        if not IS_FULL:
            cluster.nodes[0].kill()
            resumed.append(round(site.wait_for_work(now_ns()), 2))
        for producer in producers:
            producer.wait(300)
        site.finish()

        silence = round(site.longest_silence_s(), 2)
        figures = figures_of(
            site, kills=len(resumed), resumed_after_s=resumed, longest_silence_s=silence
        )
        show(capsys, "a RabbitMQ cluster whose nodes are killed", figures)
        assert figures["sent"] + figures["unknown"] == MESSAGES, figures
        assert figures["lost"] == 0, figures
        # What a worker held whose connection broke.
        assert figures["duplicates"] <= len(resumed) * WORKERS * 8, figures
        assert silence <= SILENCE_BOUND_S, figures


def kill_in_turn(nodes, site, producers):
    """Kill and restart one node after the other while messages flow; each once at least."""
    resumed = []
    for node in cycle(nodes):
        is_flowing = any(each.process.poll() is None for each in producers)
        if len(resumed) >= len(nodes) and not is_flowing:
            break
        node.kill()
        resumed.append(round(site.wait_for_work(now_ns()), 2))
        node.start()
        node.run("rabbitmq-upgrade", "await_online_quorum_plus_one")
        time.sleep(BETWEEN_KILLS_S)
    return resumed
