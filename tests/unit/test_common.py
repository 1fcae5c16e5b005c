from __future__ import annotations

import errno
import resource
import threading
import time
from queue import PriorityQueue, Queue

import pytest

from dramatiq import QueueJoinTimeout
from dramatiq.common import (
    compute_backoff,
    current_millis,
    dq_name,
    getenv_int,
    iter_queue,
    join_all,
    join_queue,
    lacks_descriptors,
    q_name,
    xq_name,
)

ROUNDS = 200


# -- environment


def test_a_variable_that_is_not_set_is_none(monkeypatch):
    monkeypatch.delenv("dramatiq_test", raising=False)

    assert getenv_int("dramatiq_test") is None


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("42", 42), ("-1", -1)])
def test_a_variable_is_read_as_an_integer(monkeypatch, text, value):
    monkeypatch.setenv("dramatiq_test", text)

    assert value == getenv_int("dramatiq_test")


@pytest.mark.parametrize("text", ["", "x", "1.5"])
def test_a_variable_that_is_no_integer_is_named(monkeypatch, text):
    monkeypatch.setenv("dramatiq_test", text)

    with pytest.raises(ValueError, match="dramatiq_test"):
        getenv_int("dramatiq_test")


# -- backoff


def test_backoff_counts_the_attempt():
    assert 1 == compute_backoff(0)[0]
    assert 8 == compute_backoff(7)[0]


@pytest.mark.parametrize(
    ("attempts", "backoff"), [(0, 5), (1, 10), (2, 20), (8, 1280), (9, 2000), (1000, 2000)]
)
def test_backoff_without_jitter_doubles_up_to_the_cap(attempts, backoff):
    assert (attempts + 1, backoff) == compute_backoff(attempts, jitter=False)


def test_backoff_stops_growing_at_the_largest_exponent():
    _, backoff = compute_backoff(40, factor=1, jitter=False, max_backoff=2**60, max_exponent=3)

    assert backoff == 8


def test_default_exponent_is_at_most_32():
    assert (41, 2**32) == compute_backoff(40, factor=1, jitter=False, max_backoff=2**60)


@pytest.mark.parametrize(
    ("attempts", "low", "high"),
    [(0, 15_000, 30_000), (1, 30_000, 60_000), (5, 480_000, 960_000)],
)
def test_jitter_makes_backoff_up_to_twice_as_long(attempts, low, high):
    backoffs = [
        compute_backoff(attempts, factor=15_000, max_backoff=604_800_000)[1] for _ in range(ROUNDS)
    ]

    assert all(low <= backoff <= high for backoff in backoffs)
    assert len(set(backoffs)) > 1


def test_jitter_spreads_capped_backoff_over_the_upper_half():
    backoffs = [compute_backoff(30, factor=15_000, max_backoff=1000)[1] for _ in range(ROUNDS)]

    assert all(500 <= backoff <= 1000 for backoff in backoffs)
    assert len(set(backoffs)) > 1


@pytest.mark.parametrize("jitter", [True, False])
@pytest.mark.parametrize("zero", ["factor", "max_backoff"])
def test_zero_makes_no_backoff(zero, jitter):
    assert (4, 0) == compute_backoff(3, jitter=jitter, **{zero: 0})


def test_backoff_is_in_whole_milliseconds():
    assert all(isinstance(compute_backoff(n)[1], int) for n in range(20))


# -- clocks


def test_the_wall_clock_is_in_whole_epoch_milliseconds():
    before, now, after = time.time(), current_millis(), time.time()

    assert isinstance(now, int)
    assert int(before * 1000) <= now <= after * 1000


# -- queues


@pytest.mark.parametrize("make", [Queue, PriorityQueue])
def test_draining_a_queue_takes_everything_and_does_not_wait(make):
    queue = make()
    for item in range(3):
        queue.put(item)

    assert [0, 1, 2] == list(iter_queue(queue))
    assert [] == list(iter_queue(queue))


def test_joining_a_finished_queue_returns():
    join_queue(Queue())
    join_queue(Queue(), timeout=0.01)


def test_joining_a_queue_waits_for_its_items():
    queue = Queue()
    queue.put(1)
    threading.Timer(0.02, queue.task_done).start()

    join_queue(queue, timeout=5)

    assert queue.unfinished_tasks == 0


def test_joining_a_queue_gives_up_after_the_given_seconds():
    queue = Queue()
    queue.put(1)
    started = time.monotonic()

    with pytest.raises(QueueJoinTimeout):
        join_queue(queue, timeout=0.05)

    assert 0.05 <= time.monotonic() - started < 1


class Joinable:
    def __init__(self, takes_s):
        self.takes_s = takes_s
        self.timeouts = []

    def join(self, timeout=None):
        self.timeouts.append(timeout)
        time.sleep(min(self.takes_s, timeout))


def test_joining_many_shares_one_budget_of_milliseconds():
    first, second, third = joinables = [Joinable(0.03), Joinable(9), Joinable(9)]

    join_all(joinables, 60)

    assert first.timeouts == [pytest.approx(0.06, abs=0.01)]
    assert second.timeouts[0] <= 0.03
    assert third.timeouts == [pytest.approx(0, abs=0.01)]


def test_joining_finished_threads_returns_at_once():
    threads = [threading.Thread(target=int) for _ in range(3)]
    for thread in threads:
        thread.start()

    join_all(threads, 5000)

    assert not any(thread.is_alive() for thread in threads)


# -- names


@pytest.mark.parametrize("queue_name", ["default", "default.DQ", "default.XQ"])
def test_each_name_of_a_queue_leads_to_all_three(queue_name):
    assert ("default", "default.DQ", "default.XQ") == (
        q_name(queue_name),
        dq_name(queue_name),
        xq_name(queue_name),
    )


@pytest.mark.parametrize("queue_name", ["DQ", "a.DQ.b", "a.dq", "aDQ", "a.XQs"])
def test_only_the_exact_suffix_counts(queue_name):
    assert queue_name == q_name(queue_name)
    assert f"{queue_name}.DQ" == dq_name(queue_name)
    assert f"{queue_name}.XQ" == xq_name(queue_name)


# -- descriptors


def test_an_error_tells_that_no_descriptor_is_left_through_what_caused_it():
    error = RuntimeError("cannot connect")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")

    assert lacks_descriptors(error)
    assert not lacks_descriptors(OSError(errno.ECONNREFUSED, "Connection refused"))


def test_an_error_that_does_not_tell_is_believed_while_nothing_can_be_opened():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        was_short = lacks_descriptors(ValueError("unable to open"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert was_short
    assert not lacks_descriptors(ValueError("unable to open"))
