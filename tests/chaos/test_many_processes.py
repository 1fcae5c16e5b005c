"""Many processes and threads on one file, some of them killed or forked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.message import Message
from dramatiq.testing.waiting import run_together
from tests.chaos.trees import open_either

pytestmark = pytest.mark.chaos

#: Seconds until what a dead worker ran runs elsewhere.
RECOVERY_S = 2


def message(number, *arguments, actor_name="work"):
    return Message("default", actor_name, (number, *arguments), {}, {})


@pytest.fixture
def broker(site):
    broker = SQLiteBroker(site.database)
    yield broker
    broker.close()


def check_that_each_ran_once(site, numbers):
    assert sorted(site.ledger.numbers("end")) == sorted(numbers)
    assert sum(site.counts()) == 0
    site.check_store()


def test_eight_processes_share_a_file_and_nobody_sees_a_lock(site):
    producers = [site.start("produce", first, 250) for first in range(0, 1000, 250)]
    workers = [site.start_worker() for _ in range(4)]

    assert [each.wait() for each in producers] == [0] * 4
    site.wait_until_drained()
    assert [each.stop() for each in workers] == [0] * 4

    check_that_each_ran_once(site, range(1000))
    assert {each.output for each in site.programs} == {""}


def test_three_hundred_threads_send_through_one_connection(site, broker):
    broker.enqueue(message(0))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))

    def send(index):
        for number in range(3):
            broker.enqueue(message(1 + 3 * index + number))

    run_together(300, send)

    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 3
    assert broker.queue_counts("default").ready == 901
    site.check_store()


def test_what_a_dead_worker_ran_runs_elsewhere_even_if_it_left_a_child(site, broker):
    broker.enqueue(message(0, actor_name="leave_child_behind"))
    victim = site.start_worker()
    site.wait_until(lambda: site.ledger.count("start") == 1, "it has left a child")
    other = site.start_worker()

    began = time.monotonic()
    victim.kill()
    site.wait_until(lambda: site.ledger.count("start") == 2, "it runs elsewhere")

    assert time.monotonic() - began < 2 * RECOVERY_S
    assert site.ledger.entries()[-1].pid == other.pid


@pytest.fixture(params=["sqlite", "redis"])
def either(request, tmp_path):
    with open_either(request, tmp_path, "many") as site:
        yield site


@pytest.mark.parametrize("attempt", range(5))
def test_parent_and_children_use_a_broker_across_a_fork(either, attempt):
    # Newer Pythons warn of forks in processes with threads: it is what this is about.
    program = either.start("fork", 8, 5, PYTHONWARNINGS="ignore")

    assert program.wait() == 0, program.output

    sent = either.ledger.numbers("sent")
    assert set(range(80)) <= set(sent)
    assert either.counts() == [len(sent), 0, 0, 0]
    assert program.output == ""
    either.check_store()
