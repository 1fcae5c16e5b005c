"""What a RabbitMQ server may do to its workers: die and come back, and close their connections."""

from __future__ import annotations

import random
import time

import pytest

from dramatiq.message import Message
from tests.chaos.harness import open_site
from tests.chaos.program import declare
from tests.chaos.rabbitmq_harness import RabbitmqSite, figures_of
from tests.chaos.redis_harness import IS_FULL, SEED, now_ns, show
from tests.proxy import Proxy
from tests.rabbitmq import read_all
from tests.servers import RabbitmqServer

#: How often the server is killed, and seconds between two kills.
KILLS, BETWEEN_KILLS_S = (6, 5.0) if IS_FULL else (1, 1.5)
#: Messages per second that are sent meanwhile.
PER_SECOND = 500
#: Seconds after the server's return within which work must go on.
RESUME_BOUND_S = 10.0
#: Seconds after which a worker must go on whose connection carries nothing any more.
SILENCE_BOUND_S = 15.0
#: Seconds by which everything is held up on a slow line, give or take as much, and how many
#: messages have to get through.
DELAY_S, SLOW_MESSAGES = (0.2, 200) if IS_FULL else (0.02, 50)
#: How often all connections are closed, and seconds between two times.
CLOSINGS, BETWEEN_CLOSINGS_S = (30, 2.0) if IS_FULL else (4, 0.7)

#: How often a worker is killed, and seconds between two kills.
WORKER_KILLS, BETWEEN_WORKER_KILLS_S = (50, 0.7) if IS_FULL else (3, 0.7)

#: Where a worker is killed, and at which hit.
FAILPOINTS = [
    "rabbitmq.publish.before=kill@3",
    "rabbitmq.publish.after=kill@3",
    "rabbitmq.settle.before_publish=kill@5",
    "rabbitmq.settle.before_ack=kill@5",
    "rabbitmq.put_away.before_ack=kill@1",
    "rabbitmq.delays.before_park=kill@1",
    "rabbitmq.delays.before_promote=kill@1",
]

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]


def test_a_server_that_is_killed_again_and_again_loses_nothing(tmp_path, capsys):
    server = RabbitmqServer(tmp_path / "server")
    try:
        server.start()
        with open_site(tmp_path / "site", RabbitmqSite, server=server) as site:
            site.start_worker(threads=4)
            count = int(2 * KILLS * BETWEEN_KILLS_S * PER_SECOND)
            producer = site.start("produce", 0, count, 1, PER_SECOND)
            site.wait_until(lambda: site.ledger.count("end"), "work has begun")

            resumed = []
            for _ in range(KILLS):
                time.sleep(BETWEEN_KILLS_S * random.Random(SEED).uniform(0.8, 1.2))
                server.restart()
                resumed.append(round(site.wait_for_work(now_ns()), 2))
            producer.wait(200)
            site.finish()

            figures = figures_of(site, kills=KILLS, resumed_after_s=resumed)
            show(capsys, "a RabbitMQ server that is killed", figures)
            assert figures["lost"] == 0, figures
            assert max(resumed) <= RESUME_BOUND_S, figures
    finally:
        server.close()


def test_workers_that_are_killed_lose_nothing_and_run_again_what_they_were_running(
    tmp_path, rabbitmq_server, capsys
):
    with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server) as site:
        workers = [site.start_worker(threads=4) for _ in range(2)]
        count = int((WORKER_KILLS + 1) * BETWEEN_WORKER_KILLS_S * PER_SECOND)
        producer = site.start("produce", 0, count, 5, PER_SECOND)
        for _ in range(WORKER_KILLS):
            time.sleep(BETWEEN_WORKER_KILLS_S)
            workers.pop(0).kill()
            workers.append(site.start_worker(threads=4))
        producer.wait(100)
        site.finish()

        figures = figures_of(site, kills=WORKER_KILLS)
        show(capsys, "RabbitMQ workers that are killed", figures)
        assert figures["lost"] == 0, figures
        # Besides what was running: what had ended, and its acknowledgement was on its way.
        assert figures["duplicates"] <= WORKER_KILLS * 8, figures


@pytest.mark.parametrize(
    "failpoint", FAILPOINTS if IS_FULL else random.Random(SEED).sample(FAILPOINTS, 2)
)
def test_whatever_a_worker_is_about_to_do_when_it_dies_another_does(
    tmp_path, rabbitmq_server, failpoint
):
    with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server) as site:
        broker = site.make_broker()
        actors = declare(broker, site.ledger.path)
        actors["fail_once"].send_many([(number,) for number in range(20)])
        actors["fail"].send_many([(number,) for number in range(30, 35)])

        dying = site.start("work", 2, failpoints=failpoint)
        site.wait_until(lambda: site.ledger.count("start"), "work has begun")
        # It would not put away what is due in two seconds, so not before it is there.
        actors["work"].send_many([(number,) for number in range(20, 30)], delay=2500)
        site.wait_until(lambda: dying.process.poll() is not None, "it has died")
        site.start_worker(threads=2)

        site.wait_until(lambda: set(site.ledger.numbers("end")) == set(range(30)), "all have ended")
        site.wait_until_drained()
        # One that was stored and not acknowledged is stored twice at most.
        dead = {Message.decode(body).args[0] for body, _ in read_all(broker, "default.XQ")}
        assert dead == set(range(30, 35))
        broker.close()


def test_connections_that_are_closed_again_and_again_run_nothing_twice(
    tmp_path, rabbitmq_server, capsys
):
    with Proxy(rabbitmq_server.port, SEED) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"
        with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server, url=url) as site:
            site.start_worker(threads=4)
            count = int(CLOSINGS * BETWEEN_CLOSINGS_S * 200)
            producer = site.start("produce", 0, count, 5, 200)
            for _ in range(CLOSINGS):
                time.sleep(BETWEEN_CLOSINGS_S)
                proxy.reset_all()
            producer.wait(100)
            site.finish()

            figures = figures_of(site, closings=CLOSINGS)
            show(capsys, "RabbitMQ connections that are closed", figures)
            assert (figures["lost"], figures["duplicates"], figures["unknown"]) == (0, 0, 0), (
                figures
            )


@pytest.mark.skipif(not IS_FULL, reason="silence takes long to notice: DRAMATIQ_CHAOS=full")
def test_a_connection_that_carries_nothing_any_more_is_replaced_and_runs_nothing_twice(
    tmp_path, rabbitmq_server, capsys
):
    with Proxy(rabbitmq_server.port, SEED) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"
        with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server, url=url) as site:
            site.start_worker(threads=4)
            site.database = rabbitmq_server.url
            producer = site.start("produce", 0, 8000, 5, 200)
            resumed = []
            for _ in range(2):
                site.wait_for_work(now_ns())
                proxy.fall_silent()
                # What is being run when it happens says nothing of the new connection.
                resumed.append(round(1 + site.wait_for_work(now_ns() + 10**9), 2))
            # From now on the server knows as well.
            proxy.reset_all()
            producer.wait(100)
            site.finish()

            figures = figures_of(site, resumed_after_s=resumed)
            show(capsys, "RabbitMQ connections that are half-open", figures)
            assert max(resumed) <= SILENCE_BOUND_S, figures
            assert (figures["lost"], figures["duplicates"], figures["unknown"]) == (0, 0, 0), (
                figures
            )


def test_a_slow_line_loses_nothing_and_repeats_nothing(tmp_path, rabbitmq_server, capsys):
    with Proxy(rabbitmq_server.port, SEED) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"
        with open_site(tmp_path, RabbitmqSite, server=rabbitmq_server, url=url) as site:
            site.start_worker(threads=4)
            proxy.delay_s = proxy.jitter_s = DELAY_S
            producer = site.start("produce", 0, SLOW_MESSAGES, 1, PER_SECOND)
            producer.wait(100)
            site.finish()

            figures = figures_of(site, delay_s=DELAY_S)
            show(capsys, "a slow line to RabbitMQ", figures)
            assert SLOW_MESSAGES == figures["sent"], figures
            assert (figures["lost"], figures["duplicates"]) == (0, 0), figures


@pytest.mark.skipif(not IS_FULL, reason="a cluster takes long to start: DRAMATIQ_CHAOS=full")
def test_when_a_node_of_a_cluster_dies_work_goes_on_by_the_next_in_the_list(tmp_path, capsys):
    first = RabbitmqServer(tmp_path / "first")
    second = RabbitmqServer(tmp_path / "second", epmd=first.epmd)
    try:
        first.start()
        second.start()
        second.join(first)
        url = f"{first.url};{second.url}"
        # The queues are declared on the second node, so they are there.
        with open_site(tmp_path / "site", RabbitmqSite, server=second, url=url) as site:
            site.start_worker(threads=4)
            producer = site.start("produce", 0, 3000, 1, PER_SECOND)
            site.wait_until(lambda: site.ledger.count("end") > 500, "work has begun")
            first.kill()
            resumed = round(site.wait_for_work(now_ns()), 2)
            producer.wait(100)
            site.finish()

            figures = figures_of(site, resumed_after_s=resumed)
            show(capsys, "a RabbitMQ cluster that loses a node", figures)
            assert figures["lost"] == 0, figures
            assert resumed <= RESUME_BOUND_S, figures
    finally:
        second.close()
        first.close()
