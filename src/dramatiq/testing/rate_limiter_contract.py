# ruff: noqa: D102 - a test's name is its sentence.
"""What every rate limiter backend must do, as tests.

Inherit in a test module and supply the backend; pytest runs every test on it:

    class TestMyBackend(RateLimiterBackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend()
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import ClassVar

import pytest

from ..errors import RateLimitExceeded
from ..rate_limits import (
    BucketRateLimiter,
    ConcurrentRateLimiter,
    RateLimiterBackend,
    WindowRateLimiter,
)
from .barrier_contract import LONG, BarrierContract, notifying, value_of
from .waiting import run_together, wait_until

__all__ = ["RateLimiterBackendContract"]

#: A bucket or window so wide that no test sees its end, in milliseconds.
WIDE = 10**12


class RateLimiterBackendContract(BarrierContract):
    """Tests of a rate limiter backend.

    Subclasses supply a fixture ``backend`` and may adjust the attributes.
    """

    #: Whether `incr_and_sum` sees all keys at the moment at which it changes one.
    sums_in_one_step: ClassVar[bool] = True

    # -- add

    def test_adding_works_once(self, backend: RateLimiterBackend, key: str) -> None:
        added = [backend.add(key, value, LONG) for value in (1, 1, 2)]

        assert added == [True, False, False]

    def test_adding_again_does_not_change_the_value(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        backend.add(key, 5, LONG)

        backend.add(key, 9, LONG)

        assert value_of(backend, key) == 5

    @pytest.mark.parametrize("value", [-1, 0, 1, -(2**40), 2**40])
    def test_any_integer_can_be_added(
        self, backend: RateLimiterBackend, key: str, value: int
    ) -> None:
        assert backend.add(key, value, LONG)

        assert backend.incr(key, 1, value + 1, LONG)
        assert not backend.incr(key, 1, value + 1, LONG)

    def test_a_key_can_be_added_again_when_it_has_expired(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        backend.add(key, 5, self.smallest_ttl)

        wait_until(lambda: backend.add(key, 7, LONG))

        assert value_of(backend, key) == 7

    # -- incr and decr

    def test_an_absent_key_counts_as_zero(self, backend: RateLimiterBackend, key: str) -> None:
        assert not backend.incr(f"{key}-1", 2, 1, LONG)
        assert not backend.decr(f"{key}-2", 1, 0, LONG)
        assert backend.incr(f"{key}-3", 1, 1, LONG)
        assert backend.decr(f"{key}-4", 1, -1, LONG)

    def test_incrementing_stops_at_the_maximum(self, backend: RateLimiterBackend, key: str) -> None:
        answers = [backend.incr(key, 2, 5, LONG) for _ in range(4)]

        assert answers == [True, True, False, False]
        assert value_of(backend, key) == 4

    def test_decrementing_stops_at_the_minimum(self, backend: RateLimiterBackend, key: str) -> None:
        backend.add(key, 5, LONG)

        answers = [backend.decr(key, 2, 1, LONG) for _ in range(4)]

        assert answers == [True, True, False, False]
        assert value_of(backend, key) == 1

    def test_the_bounds_themselves_may_be_reached(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        assert backend.incr(key, 3, 3, LONG)
        assert backend.decr(key, 3, 0, LONG)
        assert value_of(backend, key) == 0

    def test_a_negative_start_can_be_raised_to_zero_once(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        backend.add(key, -1, LONG)

        answers = [backend.incr(key, 1, 0, LONG) for _ in range(2)]

        assert answers == [True, False]

    def test_keys_do_not_touch_one_another(self, backend: RateLimiterBackend, key: str) -> None:
        backend.add(key, 5, LONG)

        backend.incr(f"{key}@", 1, 9, LONG)
        backend.decr(f"{key}2", 1, -9, LONG)

        assert value_of(backend, key) == 5

    @pytest.mark.parametrize("suffix", ["naïve ☃", "a b", "'; --", "%s_%", "x" * 150, "@1@2"])
    def test_unusual_keys_are_keys(
        self, backend: RateLimiterBackend, key: str, suffix: str
    ) -> None:
        assert backend.add(key + suffix, 5, LONG)
        assert not backend.add(key + suffix, 5, LONG)
        assert backend.incr(key + suffix, 1, 6, LONG)
        assert not backend.incr(key + suffix, 1, 6, LONG)

    @pytest.mark.parametrize("change", ["incr", "decr", "incr_and_sum"])
    def test_a_change_starts_the_time_to_live_anew(
        self, backend: RateLimiterBackend, key: str, change: str
    ) -> None:
        changed, unchanged = f"{key}-1", f"{key}-2"
        for each in (changed, unchanged):
            backend.add(each, 5, self.smallest_ttl)

        assert _change(backend, change, changed)

        wait_until(lambda: backend.add(unchanged, 0, LONG))
        assert not backend.add(changed, 0, LONG)

    @pytest.mark.parametrize("change", ["incr", "decr", "incr_and_sum"])
    def test_an_expired_value_counts_as_zero(
        self, backend: RateLimiterBackend, key: str, change: str
    ) -> None:
        expired, witness = f"{key}-1", f"{key}-2"
        for each in (expired, witness):
            backend.add(each, 5, self.smallest_ttl)
        wait_until(lambda: backend.add(witness, 0, LONG))

        assert _change(backend, change, expired)

        assert value_of(backend, expired) == (-1 if change == "decr" else 1)

    # -- incr_and_sum

    def test_the_sum_of_all_keys_is_limited(self, backend: RateLimiterBackend, key: str) -> None:
        keys = [f"{key}@{index}" for index in range(3)]
        backend.add(keys[1], 2, LONG)
        backend.add(keys[2], 2, LONG)

        answers = [backend.incr_and_sum(keys[0], lambda: keys, 1, 6, LONG) for _ in range(3)]

        assert answers == [True, True, False]
        assert value_of(backend, keys[0]) == 2

    def test_the_key_itself_is_limited_even_if_it_is_not_in_the_sum(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        answers = [backend.incr_and_sum(key, list, 1, 2, LONG) for _ in range(3)]

        assert answers == [True, True, False]

    def test_the_keys_are_asked_for_at_each_attempt(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        asked = 0

        def keys() -> list[str]:
            nonlocal asked
            asked += 1
            return [key]

        for _ in range(3):
            assert backend.incr_and_sum(key, keys, 1, 3, LONG)

        assert asked >= 3

    def test_many_keys_can_be_summed_up(self, backend: RateLimiterBackend, key: str) -> None:
        keys = [f"{key}@{index}" for index in range(1500)]
        backend.add(keys[-1], 1, LONG)

        assert backend.incr_and_sum(keys[0], lambda: keys, 1, 2, LONG)
        assert not backend.incr_and_sum(keys[0], lambda: keys, 1, 2, LONG)

    # -- many at a time

    def test_one_of_many_threads_adds(self, backend: RateLimiterBackend, key: str) -> None:
        for round_number in range(5):
            round_key = f"{key}-{round_number}"

            answers = run_together(8, lambda _, k=round_key: backend.add(k, 1, LONG))  # type: ignore[misc]

            assert answers.count(True) == 1

    def test_threads_that_increment_never_pass_the_maximum(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        answers = run_together(8, lambda _: sum(backend.incr(key, 1, 100, LONG) for _ in range(25)))

        assert sum(answers) == 100
        assert value_of(backend, key) == 100

    def test_threads_that_decrement_never_pass_the_minimum(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        backend.add(key, 100, LONG)

        answers = run_together(8, lambda _: sum(backend.decr(key, 1, 1, LONG) for _ in range(25)))

        assert sum(answers) == 99
        assert value_of(backend, key) == 1

    def test_threads_that_increment_different_keys_never_pass_the_sum(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        if not self.sums_in_one_step:
            pytest.skip("this backend sums up first")
        keys = [f"{key}@{index}" for index in range(8)]

        answers = run_together(
            8,
            lambda index: sum(
                backend.incr_and_sum(keys[index], lambda: keys, 1, 20, LONG) for _ in range(10)
            ),
        )

        assert sum(answers) == 20

    # -- events

    def test_waiting_ends_without_an_event_at_the_timeout(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        self._need_events()
        started_at_s = time.monotonic()

        assert not backend.wait(key, self.smallest_timeout)

        waited_s = time.monotonic() - started_at_s
        assert self.smallest_timeout / 1000 * 0.9 <= waited_s < self.smallest_timeout / 1000 + 2

    def test_an_event_wakes_everybody_who_waits_for_it(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        self._need_events()
        with notifying(backend, key):
            answers = run_together(4, lambda _: backend.wait(key, 20_000))

        assert answers == [True] * 4

    def test_an_event_wakes_nobody_who_waits_for_another(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        self._need_events()
        with notifying(backend, f"{key}-other"):
            assert not backend.wait(key, self.smallest_timeout)

    # -- limiters

    def test_a_mutex_lets_one_in_and_the_next_after_it(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        mutex = ConcurrentRateLimiter(backend, key, limit=1, ttl=LONG)

        for _ in range(3):
            with mutex.acquire():
                with mutex.acquire(raise_on_failure=False) as acquired:
                    assert not acquired
                with pytest.raises(RateLimitExceeded, match=f"for key '{key}'"), mutex.acquire():
                    pass

    def test_a_slot_is_given_back_after_an_error(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        mutex = ConcurrentRateLimiter(backend, key, limit=1, ttl=LONG)

        with pytest.raises(ZeroDivisionError), mutex.acquire():
            raise ZeroDivisionError

        with mutex.acquire(raise_on_failure=False) as acquired:
            assert acquired

    def test_a_slot_that_is_never_given_back_becomes_free_in_the_end(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        mutex = ConcurrentRateLimiter(backend, key, limit=1, ttl=self.smallest_ttl)
        assert mutex._acquire()

        wait_until(mutex._acquire)

    def test_threads_never_hold_more_slots_than_there_are(
        self, backend: RateLimiterBackend, key: str
    ) -> None:
        limiter = ConcurrentRateLimiter(backend, key, limit=3, ttl=LONG)
        lock = threading.Lock()
        holders, most_holders, passed = 0, 0, 0

        def hold(_: int) -> None:
            nonlocal holders, most_holders, passed
            for _ in range(25):
                with limiter.acquire(raise_on_failure=False) as acquired:
                    if not acquired:
                        continue
                    with lock:
                        holders += 1
                        passed += 1
                        most_holders = max(most_holders, holders)
                    with lock:
                        holders -= 1

        run_together(8, hold)

        assert passed > 0
        assert most_holders <= 3
        assert value_of(backend, key) == 0

    def test_a_bucket_lets_so_many_through(self, backend: RateLimiterBackend, key: str) -> None:
        limiter = BucketRateLimiter(backend, key, limit=3, bucket=WIDE)

        assert _passes(limiter, 5) == [True, True, True, False, False]

    def test_the_next_bucket_is_empty(self, backend: RateLimiterBackend, key: str) -> None:
        limiter = BucketRateLimiter(backend, key, limit=1, bucket=100)
        assert _passes(limiter, 1) == [True]

        wait_until(lambda: _passes(limiter, 1) == [True])

    def test_a_window_lets_so_many_through(self, backend: RateLimiterBackend, key: str) -> None:
        limiter = WindowRateLimiter(backend, key, limit=3, window=60)

        assert _passes(limiter, 5) == [True, True, True, False, False]

    def test_a_window_moves_on(self, backend: RateLimiterBackend, key: str) -> None:
        limiter = WindowRateLimiter(backend, key, limit=2, window=1)
        wait_until(lambda: _passes(limiter, 2) == [True, True])

        wait_until(lambda: _passes(limiter, 1) == [True])


def _change(backend: RateLimiterBackend, change: str, key: str) -> bool:
    if change == "incr":
        return backend.incr(key, 1, 100, LONG)
    if change == "decr":
        return backend.decr(key, 1, -100, LONG)
    return backend.incr_and_sum(key, lambda: [key], 1, 100, LONG)


def _passes(limiter: BucketRateLimiter | WindowRateLimiter, times: int) -> list[bool]:
    with ExitStack() as stack:
        return [stack.enter_context(limiter.acquire(raise_on_failure=False)) for _ in range(times)]
