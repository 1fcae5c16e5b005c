"""Many processes and threads on one file, some of them stopped, forked or deaf for a while."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.message import Message
from dramatiq.testing.waiting import run_together

pytestmark = pytest.mark.chaos

#: Seconds after which it is certain that others would have noticed a death: it takes them one.
LONG_S = 3
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


def test_a_worker_that_is_stopped_for_a_while_keeps_what_it_holds(site, broker):
    broker.enqueue_many(message(number, 20) for number in range(200))
    stopped, other = site.start_worker(), site.start_worker()
    site.wait_until(lambda: site.running(stopped.pid), "it is busy")

    stopped.send(signal.SIGSTOP)
    site.wait_until(lambda: stopped.is_stopped, "it is stopped")
    held = site.leased_to(stopped.pid)
    threading.Event().wait(LONG_S)

    assert held == site.leased_to(stopped.pid) > 0
    stopped.send(signal.SIGCONT)
    site.wait_until_drained()
    assert [stopped.stop(), other.stop()] == [0, 0]
    check_that_each_ran_once(site, range(200))
    assert {stopped.output, other.output} == {""}


def test_a_worker_whose_interpreter_is_busy_keeps_what_it_holds(site, broker):
    broker.enqueue(message(0, LONG_S * 1000, actor_name="hold_interpreter"))
    site.start_worker()
    site.wait_until(lambda: site.ledger.numbers("start") == [0], "it is busy")
    other = site.start_worker()

    broker.enqueue_many(message(number) for number in range(1, 50))

    site.wait_until_drained()
    check_that_each_ran_once(site, range(50))
    assert other.output == ""


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


@pytest.mark.parametrize("attempt", range(5))
def test_parent_and_children_use_a_broker_across_a_fork(site, attempt):
    # Newer Pythons warn of forks in processes with threads: it is what this is about.
    program = site.start("fork", 8, 5, PYTHONWARNINGS="ignore")

    assert program.wait() == 0, program.output

    sent = site.ledger.numbers("sent")
    assert set(range(80)) <= set(sent)
    assert site.counts() == [len(sent), 0, 0, 0]
    assert program.output == ""
    site.check_store()
