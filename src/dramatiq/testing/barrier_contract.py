# ruff: noqa: D102 - a test's name is its sentence.
"""What every rate limiter backend must do for barriers, as tests; see `rate_limiter_contract`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import pytest

from ..rate_limits import Barrier, RateLimiterBackend
from .waiting import run_together, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONG", "BarrierContract", "notifying", "value_of"]

#: Milliseconds that no test outlives.
LONG = 60_000


class BarrierContract:
    """Tests of barriers on a rate limiter backend; inherit `RateLimiterBackendContract` instead."""

    #: Shortest time to live that the backend tells from none, in milliseconds.
    smallest_ttl: ClassVar[int] = 100
    #: Shortest timeout of a wait that the backend honours, in milliseconds.
    smallest_timeout: ClassVar[int] = 50
    #: Whether a member that arrives twice at a barrier counts once.
    counts_members_once: ClassVar[bool] = True
    #: Whether a waiter can be woken; otherwise `wait` raises NotImplementedError.
    has_events: ClassVar[bool] = True

    @pytest.fixture
    def key(self) -> str:
        """A key nobody used before: servers keep theirs between tests."""
        return f"key-{uuid4()}"

    def test_a_barrier_is_made_once(self, backend: RateLimiterBackend, key: str) -> None:
        barrier = Barrier(backend, key, ttl=LONG)

        assert barrier.create(parties=2)
        assert not barrier.create(parties=10)
        assert [barrier.wait(block=False) for _ in range(2)] == [False, True]

    def test_the_last_party_and_all_after_it_find_the_barrier_clear(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=3)

        answers = [barrier.wait(block=False) for _ in range(5)]

        assert answers == [False, False, True, True, True]

    def test_a_barrier_of_one_is_clear_at_once(self, backend: RateLimiterBackend, key: str) -> None:
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=1)

        assert barrier.wait(timeout=1000)

    def test_a_barrier_that_was_never_made_is_clear(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        assert Barrier(backend, key, ttl=LONG).wait(block=False)

    def test_an_expired_barrier_is_clear(self, backend: RateLimiterBackend, key: str) -> None:
        barrier = Barrier(backend, key, ttl=self.smallest_ttl)
        barrier.create(parties=1000)
        witness = Barrier(backend, f"{key}-witness", ttl=self.smallest_ttl)
        witness.create(parties=1000)
        wait_until(lambda: witness.create(parties=1000))

        assert barrier.wait(block=False)

    def test_a_party_that_waits_alone_gives_up_at_its_timeout(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        self._need_events()
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=2)

        assert not barrier.wait(timeout=self.smallest_timeout)

    def test_the_last_party_wakes_the_others_together(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        self._need_events()
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=4)

        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(barrier.wait, timeout=20_000) for _ in range(3)]
            wait_until(lambda: value_of(backend, key) == 1)
            with notifying(backend, barrier.key_events):
                assert barrier.wait(timeout=20_000)

                assert [each.result(timeout=10) for each in waiting] == [True] * 3

    def test_exactly_one_of_many_threads_is_the_last(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=40)

        answers = run_together(8, lambda _: [barrier.wait(block=False) for _ in range(5)])

        assert sum(answer for each in answers for answer in each) == 1

    def test_members_clear_a_barrier_like_parties(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=3)

        answers = [barrier.arrive(member) for member in ("a", "b", "c", "d")]

        assert answers == [False, False, True, True]

    def test_a_member_that_arrives_again_gets_its_first_answer_and_is_not_counted(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        if not self.counts_members_once:
            pytest.skip("this backend counts every arrival")
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=3)

        answers = [barrier.arrive(member) for member in ("a", "a", "b", "a", "b", "c", "c", "a")]

        assert answers == [False, False, False, False, False, True, True, False]

    def test_threads_that_repeat_members_clear_the_barrier_with_the_last(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        if not self.counts_members_once:
            pytest.skip("this backend counts every arrival")
        barrier = Barrier(backend, key, ttl=LONG)
        barrier.create(parties=11)

        answers = run_together(
            8, lambda _: [barrier.arrive(f"member {index}") for index in range(10)]
        )

        assert not any(answer for each in answers for answer in each)
        assert barrier.arrive("the last")

    def _need_events(self) -> None:
        if not self.has_events:
            pytest.skip("this backend has no events")


def value_of(backend: RateLimiterBackend, key: str) -> int:
    """Find out a value by what it lets through; leaves it as it was."""
    low, high = -10_000, 10_000
    while low < high:
        middle = (low + high) // 2
        if backend.incr(key, 0, middle, LONG):
            high = middle
        else:
            low = middle + 1
    return low


@contextmanager
def notifying(backend: RateLimiterBackend, key: str) -> Iterator[None]:
    """Send an event again and again: whoever is not waiting yet may miss the first."""
    stop = threading.Event()

    def notify() -> None:
        while not stop.wait(0.01):
            backend.wait_notify(key, LONG)

    thread = threading.Thread(target=notify)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
