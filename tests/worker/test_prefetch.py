from __future__ import annotations

import pytest

from dramatiq.worker.prefetch import MAX_PREFETCH, Prefetch, SlowStart


def demand(prefetch, *, held=0, free_slots=0, others_waiting=False):
    return prefetch.demand(held=held, free_slots=free_slots, others_waiting=others_waiting)


@pytest.fixture
def fast():
    """A prefetch that has seen 1,000 messages a second."""
    prefetch = Prefetch()
    for tick in range(1001):
        prefetch.observe(10, tick / 100)
    return prefetch


def test_without_a_pace_the_free_slots_are_filled():
    assert demand(Prefetch(), free_slots=8) == 8
    assert demand(Prefetch(), free_slots=0) == 0


def test_a_tenth_of_a_second_of_work_is_held(fast):
    assert demand(fast) == pytest.approx(100, abs=1)
    assert demand(fast, held=40) == pytest.approx(60, abs=1)
    assert demand(fast, held=100) == 0
    assert demand(fast, held=150) == 0


def test_a_free_slot_is_filled_whatever_is_held(fast):
    assert demand(fast, held=500, free_slots=3) == 3


def test_no_pace_makes_a_hoard():
    prefetch = Prefetch()
    prefetch.observe(0, 0.0)
    prefetch.observe(1_000_000, 1.0)

    assert demand(prefetch) == MAX_PREFETCH
    assert demand(prefetch, held=MAX_PREFETCH) == 0


def test_thousands_of_free_slots_are_filled_whatever_runs_already():
    assert demand(Prefetch(), held=9_000, free_slots=600) == 600
    assert demand(Prefetch(), held=0, free_slots=10_000) == MAX_PREFETCH


def test_long_tasks_are_not_hoarded():
    prefetch = Prefetch()
    for second in range(10):
        prefetch.observe(1, float(second))

    assert demand(prefetch, held=8) == 0


def test_a_pace_that_is_not_reached_any_more_fades(fast):
    before = demand(fast)

    fast.observe(0, 10.15)
    halved = demand(fast)
    fast.observe(0, 61.0)

    assert halved == pytest.approx(before / 2, abs=1)
    assert demand(fast) == 0


def test_tasks_that_end_together_are_no_fast_pace():
    """Eight threads with tasks of 150 ms, in step: 53 a second, however they are looked at."""
    prefetch = Prefetch()
    prefetch.observe(0, 0.0)
    most = 0
    for step in range(1, 50):
        prefetch.observe(0, step * 0.15 - 0.0001)
        prefetch.observe(8, step * 0.15)
        most = max(most, demand(prefetch))

    assert most <= 8


def test_a_queue_has_one_message_waiting_beside_a_busy_one():
    assert demand(Prefetch(), others_waiting=True) == 1
    assert demand(Prefetch(), others_waiting=True, held=1) == 0


@pytest.mark.parametrize(("held", "expected"), [(0, 16), (10, 6), (16, 0), (20, 0)])
def test_a_fixed_prefetch_does_not_follow_the_work(held, expected):
    prefetch = Prefetch(16)
    prefetch.observe(0, 0.0)
    prefetch.observe(10_000, 1.0)

    assert demand(prefetch, held=held, free_slots=100, others_waiting=True) == expected


def test_a_mixed_queue_is_taken_from_carefully_until_all_of_it_is_for_slots():
    start = SlowStart()
    least = start.allowance

    start.observe(has_plain=False)
    start.observe(has_plain=False)
    assert 4 * least == start.allowance
    for _ in range(20):
        start.observe(has_plain=False)
    assert MAX_PREFETCH == start.allowance

    start.observe(has_plain=True)
    assert least == start.allowance
    start.observe(has_plain=False)
    start.restart()
    assert least == start.allowance
