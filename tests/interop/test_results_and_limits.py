"""Results, rate limiters and barriers are the same things for both fleets."""

from __future__ import annotations

import time

import pytest

from tests.interop.harness import FLEETS, OLD, OURS, RemoteError


def test_a_result_is_read_by_the_other_fleet(site, direction):
    sender, worker = (site.console(fleet) for fleet in direction)
    worker("start()")

    value = sender("square.send(7).get_result(block=True, timeout=5000)")

    assert 49 == value


def test_a_stored_result_is_read_by_both_fleets(site, fleet):
    consoles = [site.console(each) for each in FLEETS]
    worker = site.console(fleet)
    worker("message = square.send(5)")
    worker("start()")
    site.wait_until_drained()
    payload = worker("message.encode().decode()")

    values = [
        console(f"dramatiq.Message.decode({payload!r}.encode()).get_result(backend=results)")
        for console in consoles
    ]

    assert [25, 25] == values


def test_a_failure_is_read_by_the_other_fleet(site, direction):
    sender, worker = (site.console(fleet) for fleet in direction)
    worker("start()")

    with pytest.raises(RemoteError, match="actor raised LookupError: no 3") as caught:
        sender("explode.send(3).get_result(block=True, timeout=5000)")

    assert "dramatiq.results.errors.ResultFailure" in caught.value.bases


def test_a_missing_result_is_missing_for_both_fleets(site, fleet):
    with pytest.raises(RemoteError) as caught:
        site.console(fleet)("square.message(3).get_result()")

    assert "dramatiq.results.errors.ResultMissing" in caught.value.bases


@pytest.fixture
def two(site):
    """A console of each fleet, with the limiters at hand."""
    consoles = [site.console(fleet) for fleet in FLEETS]
    for console in consoles:
        console("from dramatiq.rate_limits import *")
    return consoles


def test_actors_of_both_fleets_take_turns(site, two):
    # Ours would have done all of them before the other one has found the first.
    for console in sorted(two, key=lambda console: console.fleet):
        console("start()")
        console("for n in range(15): take_turns.send(n)")
        fleet = console.fleet
        site.wait_until(lambda: fleet in site.ledger.fleets(), f"{fleet} took a turn")  # noqa: B023

    site.wait_until_drained()

    kinds = [entry.kind for entry in site.ledger.entries()]
    assert ["start", "end"] * 30 == kinds
    assert set(FLEETS) == site.ledger.fleets()


def acquire_everywhere(consoles, times=1):
    """Return who got in: each console in turn tries to, and stays in."""
    return [
        console("limiter._acquire()") and console.fleet
        for _ in range(times)
        for console in consoles
    ]


def test_a_concurrent_limiter_counts_both_fleets(site, two, direction):
    first, second = sorted(two, key=lambda console: direction.index(console.fleet))
    for console in two:
        console(f"limiter = ConcurrentRateLimiter(limits, {site.key('room')!r}, limit=2)")
    assert [first.fleet, second.fleet, False, False] == acquire_everywhere([first, second], 2)

    first("limiter._release()")

    assert second("limiter._acquire()")
    assert not first("limiter._acquire()")


def test_a_bucket_limiter_counts_both_fleets(site, two):
    for console in two:
        console(
            f"limiter = BucketRateLimiter(limits, {site.key('bucket')!r}, limit=3, bucket=60000)"
        )
    # The bucket must not end in the middle.
    site.wait_until(lambda: time.time() % 60 < 55, "a bucket begins")

    assert [OURS, OLD, OURS, False] == acquire_everywhere(two, 2)


def test_a_window_limiter_counts_both_fleets(site, two):
    for console in two:
        console(f"limiter = WindowRateLimiter(limits, {site.key('window')!r}, limit=3, window=60)")

    assert [OURS, OLD, OURS, False] == acquire_everywhere(two, 2)


def test_a_barrier_is_met_by_both_fleets(site, two, direction):
    first, second = sorted(two, key=lambda console: direction.index(console.fleet))
    for console in two:
        console(f"barrier = Barrier(limits, {site.key('barrier')!r}, ttl=60000)")

    assert first("barrier.create(3)")
    assert not second("barrier.create(3)")

    assert not second("barrier.wait(block=False)")
    assert not first("barrier.wait(block=False)")
    assert second("barrier.wait(block=False)")
    assert first("barrier.wait(block=False)")


def test_who_waits_at_a_barrier_is_woken_by_the_other_fleet(site, two, direction):
    first, second = sorted(two, key=lambda console: direction.index(console.fleet))
    for console in two:
        console(f"barrier = Barrier(limits, {site.key('barrier')!r}, ttl=60000)")
    first("barrier.create(2)")
    first(
        "import threading\n"
        "met = []\n"
        "waiter = threading.Thread(target=lambda: met.append(barrier.wait(timeout=4000)))\n"
        "waiter.start()"
    )
    site.wait_until(lambda: "1" == site.redis.get(site.key("barrier")), "one has arrived")

    assert second("barrier.wait(timeout=4000)")

    first("waiter.join(10)")
    assert [True] == first("met")
