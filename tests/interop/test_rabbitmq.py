"""Both fleets on one RabbitMQ server: messages, delays, retries, dead letters, and fault E5."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import pytest

from dramatiq.common import current_millis
from dramatiq.inspection import Selection, State
from tests.interop.harness import OURS
from tests.proxy import Proxy

#: Seconds in which 2.2.1 is given the chance to recover.
PATIENCE_S = 2.0


@pytest.fixture
def site(make_rabbitmq_site):
    return make_rabbitmq_site()


@pytest.fixture
def pair(site, direction):
    """A console that sends and one of the other fleet, whose worker runs."""
    sender, receiver = (site.console(fleet) for fleet in direction)
    receiver("start()")
    return sender, receiver


def test_messages_are_run_by_the_other_fleet(site, pair):
    sender, receiver = pair

    sender("for n in range(50): work.send(n)")

    site.wait_for(50)
    assert list(range(50)) == site.ledger.numbers()
    assert {receiver.fleet} == site.ledger.fleets()


def test_queues_with_priorities_are_the_same_for_both(make_rabbitmq_site, direction):
    site = make_rabbitmq_site(priorities=10)
    sender, receiver = (site.console(fleet) for fleet in direction)
    sender("for n in (1, 9, 5): work.send_with_options(args=(n,), broker_priority=n)")

    receiver("start(threads=1)")

    site.wait_for(3)
    assert [9, 5, 1] == [entry.number for entry in site.ledger.entries("start")]


def test_a_delayed_message_runs_when_it_is_due(site, pair):
    sender, _ = pair
    start_ns = time.time_ns()

    sender("work.send_with_options(args=(2,), delay=900)")
    sender("work.send_with_options(args=(1,), delay=300)")

    site.wait_for(2)
    first, second = site.ledger.entries("start")
    assert (1, 2) == (first.number, second.number)
    assert 0.3 <= (first.at_ns - start_ns) / 1e9 < 0.9
    assert 0.9 <= (second.at_ns - start_ns) / 1e9 < 2.5


def test_what_one_fleet_has_taken_up_the_other_runs(site, direction):
    first, second = (site.console(fleet) for fleet in direction)
    first("for n in range(10): work.send_with_options(args=(n,), delay=3500)")
    first("start()")
    # Ours has parked them in the server; 2.x holds them in memory and gives them back.
    site.wait_until(lambda: not site.waiting("default.DQ"), "they are taken up")
    first("stop()")
    assert not site.ledger.entries()

    second("start()")

    site.wait_for(10)
    assert list(range(10)) == site.ledger.numbers()
    assert {second.fleet} == site.ledger.fleets()


def test_a_retry_of_one_fleet_is_run_by_the_other(site, direction):
    first, second = (site.console(fleet) for fleet in direction)
    first("start()")
    first("fail_twice.send(1)")
    site.wait_for(1, "start")
    first("stop()")

    second("start()")

    site.wait_for(1)
    assert 3 == site.ledger.count("start")


def test_a_pipeline_goes_through_both_fleets(site, direction):
    first, second = (site.console(fleet) for fleet in direction)
    first("start()")
    second("start()")

    first("(add.message(1, 1) | add.message(10) | finish.message()).run()")

    site.wait_for(1)
    assert [12] == site.ledger.numbers()


def test_dead_letters_of_both_are_in_one_place(site, fleet):
    console = site.console(fleet)
    console("start()")

    console("give_up.send(7)")

    site.wait_until(lambda: len(site.dead()) == 1, "it is dead")
    ((letter, headers),) = site.dead()
    assert ("give_up", [7]) == (letter["actor_name"], letter["args"])
    if fleet == OURS:
        # 2.x keeps the options of the last but one attempt.
        assert 2 == letter["options"]["retries"]
        assert "RuntimeError" in letter["options"]["traceback"]
        assert "RuntimeError: 7" == headers["x-dramatiq-reason"]
    # And can be put back from there.
    inspection = site.observer.inspection
    (info,) = inspection.messages(State.DEAD, Selection(site.queue_name)).items
    assert ("RuntimeError: 7" if fleet == OURS else "rejected") == info.reason
    assert abs(current_millis() - info.died_at) < 60_000
    starts = site.ledger.count("start")
    assert 1 == inspection.requeue(Selection(site.queue_name))
    site.wait_for(starts + 1, "start")


def test_a_finished_task_acknowledges_nothing_that_came_over_a_new_connection(
    make_rabbitmq_site, rabbitmq_server, fleet
):
    # E5: the task that was running when the connection broke acknowledges, when it ends, the
    # message that has its number on the new connection. That one is gone before it has run.
    with Proxy(rabbitmq_server.port) as proxy:
        site = make_rabbitmq_site()
        console = site.console(fleet, port=proxy.port)
        console("work.send(0, 2000); start(threads=1, prefetch=1)")
        site.wait_for(1, "start")
        proxy.refuse()
        # Meanwhile somebody else gets the first message.
        with closing(site.observer.consume(site.queue_name, prefetch=1)) as other:
            site.wait_until(lambda: other.fetch(1, 100), "the message is delivered again")
            site.console(OURS, 1)("work.send(1, 20_000)")
            proxy.accept()

            site.wait_for(2, "start")
            os.killpg(console.process.pid, signal.SIGKILL)

            # It was running when its worker died: it must come again.
            def came_back():
                return site.waiting() == 1

            if fleet == OURS:
                site.wait_until(came_back, "the message is there")
            else:
                assert not site.comes_true(came_back, PATIENCE_S), "no defect"
