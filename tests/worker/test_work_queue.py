from __future__ import annotations

import dataclasses
import sys
import threading
import time
from contextlib import suppress
from itertools import chain
from queue import Empty, PriorityQueue

import pytest

from dramatiq.testing.waiting import run_together, wait_until
from dramatiq.threading import Interrupt, raise_thread_exception
from dramatiq.worker.work_queue import WorkQueue, _WorkQueueItem


class Incomparable:
    """Fails when it takes part in a comparison."""

    def __lt__(self, other):
        raise AssertionError("messages must not be compared")

    __gt__ = __eq__ = __lt__
    __hash__ = object.__hash__


@pytest.fixture
def queue():
    return WorkQueue()


def test_the_lowest_priority_comes_first_and_then_the_earliest(queue):
    queue.add([(1, "b1"), (0, "a1"), (1, "b2"), (-1, "first"), (0, "a2")])

    taken = [queue.take(1)[1] for _ in range(5)]

    assert taken == ["first", "a1", "a2", "b1", "b2"]


def test_messages_take_no_part_in_comparisons(queue):
    messages = [Incomparable() for _ in range(10)]
    queue.add([(0, message) for message in messages])

    taken = [queue.take(1)[1] for _ in messages]

    assert all(one is other for one, other in zip(taken, messages, strict=True))


def test_it_is_a_priority_queue_of_items(queue):
    assert isinstance(queue, PriorityQueue)
    queue.put(_WorkQueueItem(priority=2, message="second"))
    queue.put_nowait(_WorkQueueItem(priority=1, message="first"))
    assert (queue.qsize(), queue.empty(), queue.unfinished) == (2, False, 2)

    items = [queue.get(timeout=1), queue.get_nowait()]

    assert [(item.priority, item.message) for item in items] == [(1, "first"), (2, "second")]
    assert (queue.qsize(), queue.empty(), queue.unfinished) == (0, True, 2)
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.01)


def test_items_are_frozen_and_ordered_by_priority_and_age():
    older = _WorkQueueItem(priority=1, message=Incomparable())
    younger = _WorkQueueItem(priority=1, message=Incomparable())
    urgent = _WorkQueueItem(priority=0, message=Incomparable(), _queued_time=time.monotonic_ns())

    assert sorted([younger, older, urgent]) == [urgent, older, younger]
    with pytest.raises(dataclasses.FrozenInstanceError):
        older.priority = 5


def test_joining_waits_until_everything_is_finished(queue):
    queue.add([(0, "message")])
    joining = threading.Thread(target=queue.join)
    joining.start()

    queue.take(1)
    assert joining.is_alive()
    queue.task_done()

    joining.join(5)
    assert not joining.is_alive()


def test_draining_takes_what_was_not_started_in_order(queue):
    queue.add([(2, "later"), (1, "sooner"), (0, "running")])
    queue.take(1)

    assert queue.drain() == ["sooner", "later"]

    assert queue.unfinished == 1
    with pytest.raises(Empty):
        queue.take(0.01)
    queue.task_done()
    queue.join()


def test_waking_lets_takers_return_with_nothing(queue):
    def take(_):
        with pytest.raises(Empty):
            queue.take(20)

    started_at = time.monotonic()
    takers = threading.Thread(target=run_together, args=(3, take))
    takers.start()

    queue.wake(3)

    takers.join(10)
    assert time.monotonic() - started_at < 10


def test_whoever_finishes_the_last_message_tells_of_it(queue):
    told = []
    queue.on_idle = lambda: told.append(queue.unfinished)
    queue.add([(0, "first"), (0, "second")])

    queue.take(1)
    queue.task_done()
    assert told == []
    queue.take(1)
    queue.task_done()

    assert told == [0]


def test_threads_take_each_message_once(queue):
    taken = [[] for _ in range(8)]
    producers_done = threading.Event()

    def take(index):
        while True:
            try:
                taken[index].append(queue.take(0.05)[1])
            except Empty:
                if producers_done.is_set():
                    return

    takers = [threading.Thread(target=take, args=(index,)) for index in range(8)]
    for taker in takers:
        taker.start()
    run_together(4, lambda n: [queue.add([(i % 3, (n, i))]) for i in range(500)])
    producers_done.set()
    for taker in takers:
        taker.join(20)

    assert sorted(chain.from_iterable(taken)) == [(n, i) for n in range(4) for i in range(500)]


@pytest.mark.skipif(
    sys.gettrace() is not None,
    reason="a tracer lets interrupts hit between taking a lock and noting that it is taken",
)
def test_interrupted_takers_lose_no_message(queue):
    """Interrupts land anywhere inside take; whatever was added must still come out."""
    taken, stop = [], threading.Event()

    def take():
        while not stop.is_set():
            with suppress(Empty, Interrupt):
                taken.append(queue.take(0.05)[1])

    def take_until_stopped():
        # The test's own lines are hit too.
        while not stop.is_set():
            with suppress(Interrupt):
                take()

    takers = [threading.Thread(target=take_until_stopped) for _ in range(2)]
    for taker in takers:
        taker.start()
    for index in range(300):
        for taker in takers:
            raise_thread_exception(taker.ident, Interrupt)
        queue.add([(0, index)])

    wait_until(queue.empty)
    stop.set()
    for taker in takers:
        taker.join(5)
    # The test's own line between take and append may be hit too, so a few may be missing here;
    # none may be left behind in the queue.
    assert queue.qsize() == 0
    assert len(taken) == len(set(taken))
