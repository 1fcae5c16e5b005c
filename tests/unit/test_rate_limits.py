from __future__ import annotations

import sys
import warnings

import pytest

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import MessageProxy
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import (
    Barrier,
    BucketRateLimiter,
    ConcurrentRateLimiter,
    RateLimiter,
    RateLimiterBackend,
    RateLimitExceeded,
    WindowRateLimiter,
    backends,
    bucket,
    window,
)
from dramatiq.rate_limits.backends import StubBackend
from dramatiq.threading import ThreadTarget, _task_target

LONG = 60_000


class RecordingBackend(RateLimiterBackend):
    """Keeps what limiters ask for, and answers as told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def add(self, *args):
        self.calls.append(("add", *args))
        return self.answers.pop(0)

    def incr(self, *args):
        self.calls.append(("incr", *args))
        return self.answers.pop(0)

    def decr(self, *args):
        self.calls.append(("decr", *args))
        return self.answers.pop(0)

    def incr_and_sum(self, key, keys, *args):
        self.calls.append(("incr_and_sum", key, list(keys()), *args))
        return self.answers.pop(0)

    def wait(self, *args):
        self.calls.append(("wait", *args))
        return self.answers.pop(0)

    def wait_notify(self, *args):
        self.calls.append(("wait_notify", *args))


# -- limiters


def test_a_concurrent_limiter_takes_the_first_slot_by_adding():
    backend = RecordingBackend(True, True)

    with ConcurrentRateLimiter(backend, "key", limit=3, ttl=100).acquire():
        pass

    assert backend.calls == [("add", "key", 1, 100), ("decr", "key", 1, 0, 100)]


def test_a_concurrent_limiter_takes_further_slots_by_incrementing():
    backend = RecordingBackend(False, True, True)

    with ConcurrentRateLimiter(backend, "key", limit=3).acquire():
        pass

    assert backend.calls == [
        ("add", "key", 1, 900_000),
        ("incr", "key", 1, 3, 900_000),
        ("decr", "key", 1, 0, 900_000),
    ]


def test_a_slot_that_was_not_taken_is_not_given_back():
    backend = RecordingBackend(False, False)

    with ConcurrentRateLimiter(backend, "key").acquire(raise_on_failure=False) as acquired:
        assert acquired is False

    assert [name for name, *_ in backend.calls] == ["add", "incr"]


def test_a_bucket_limiter_counts_in_slots_aligned_to_the_epoch(monkeypatch):
    backend = RecordingBackend(False, True)
    monkeypatch.setattr(bucket, "current_millis", lambda: 1_234_567)

    with BucketRateLimiter(backend, "key", limit=3, bucket=1000).acquire():
        pass

    assert backend.calls == [
        ("add", "key@1234000", 1, 1000),
        ("incr", "key@1234000", 1, 3, 1000),
    ]


def test_a_window_limiter_sums_up_the_last_seconds(monkeypatch):
    backend = RecordingBackend(True)
    monkeypatch.setattr(window.time, "time", lambda: 1000.9)

    with WindowRateLimiter(backend, "key", limit=9, window=3).acquire():
        pass

    assert backend.calls == [
        ("incr_and_sum", "key@1000", ["key@1000", "key@999", "key@998"], 1, 9, 3000)
    ]


def test_a_limiter_names_its_key_when_it_refuses():
    limiter = ConcurrentRateLimiter(StubBackend(), "some key")

    with limiter.acquire(), pytest.raises(RateLimitExceeded) as refused, limiter.acquire():
        pass

    assert str(refused.value) == "rate limit exceeded for key 'some key'"


@pytest.mark.parametrize(
    ("limiter", "arguments"),
    [
        (ConcurrentRateLimiter, {"limit": 0}),
        (BucketRateLimiter, {"limit": 0}),
        (WindowRateLimiter, {"limit": 0}),
        (WindowRateLimiter, {"window": 0}),
    ],
)
def test_limits_and_windows_must_be_positive(limiter, arguments):
    with pytest.raises(AssertionError):
        limiter(StubBackend(), "key", **arguments)


def test_a_limiter_of_ones_own_needs_two_methods():
    class Nothing(RateLimiter):
        pass

    limiter = Nothing(StubBackend(), "key")

    with pytest.raises(NotImplementedError, match=r"Nothing does not implement _acquire\(\)"):
        limiter._acquire()
    with pytest.raises(NotImplementedError, match=r"Nothing does not implement _release\(\)"):
        limiter._release()


# -- barriers


def test_a_barrier_counts_down_and_notifies():
    backend = RecordingBackend(True, True, False)
    barrier = Barrier(backend, "key", ttl=100)

    barrier.create(parties=2)
    answers = [barrier.wait(block=False), barrier.wait(block=False)]

    assert answers == [False, True]
    assert backend.calls == [
        ("add", "key", 2, 100),
        ("decr", "key", 1, 1, 100),
        ("decr", "key", 1, 1, 100),
        ("wait_notify", "key@events", 100),
    ]


def test_a_blocking_party_waits_for_the_event():
    backend = RecordingBackend(True, False)

    assert Barrier(backend, "key").wait(timeout=500) is False

    assert backend.calls == [("decr", "key", 1, 1, 900_000), ("wait", "key@events", 500)]


def test_a_barrier_needs_parties():
    with pytest.raises(AssertionError):
        Barrier(StubBackend(), "key").create(parties=0)


def test_a_backend_that_does_not_know_members_counts_every_arrival():
    class Plain(StubBackend):
        arrive = RateLimiterBackend.arrive

    barrier = Barrier(Plain(), "key")
    barrier.create(parties=2)

    assert [barrier.arrive("a"), barrier.arrive("a")] == [False, True]


# -- backends


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("add", ("key", 1, LONG)),
        ("incr", ("key", 1, 1, LONG)),
        ("decr", ("key", 1, 1, LONG)),
        ("incr_and_sum", ("key", list, 1, 1, LONG)),
        ("wait", ("key", 1)),
        ("arrive", ("key", "member", LONG)),
    ],
)
def test_the_base_backend_implements_nothing(method, arguments):
    with pytest.raises(NotImplementedError, match="RateLimiterBackend does not implement"):
        getattr(RateLimiterBackend(), method)(*arguments)


def test_notifying_is_optional_for_a_backend():
    assert RateLimiterBackend().wait_notify("key", LONG) is None


@pytest.mark.parametrize(
    ("name", "extra", "library"),
    [("MemcachedBackend", "memcached", "pylibmc"), ("RedisBackend", "redis", "redis")],
)
def test_a_backend_without_its_client_library_names_the_extra(monkeypatch, name, extra, library):
    ours = (f"dramatiq.{extra}", f"{backends.__name__}.{extra}")
    for module in [each for each in sys.modules if each.startswith(ours)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)

    with (
        pytest.warns(ImportWarning, match=rf"dramatiq\[{extra}\]"),
        pytest.raises(AttributeError) as missing,
    ):
        getattr(backends, name)

    assert isinstance(missing.value.__cause__, ModuleNotFoundError)


def test_an_unknown_backend_is_a_missing_attribute():
    with warnings.catch_warnings(), pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        backends.Unknown  # noqa: B018 - looking is the test


# -- group callbacks


@pytest.fixture
def broker(monkeypatch):
    broker = StubBroker(middleware=[])
    broker.add_middleware(GroupCallbacks(StubBackend()))
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    return broker


@pytest.fixture
def member(broker):
    @dramatiq.actor(broker=broker)
    def run():
        pass

    callback = run.message("done")
    barrier = Barrier(broker.middleware[0].rate_limiter_backend, "group")
    barrier.create(parties=2)
    options = {
        "group_completion_uuid": "group",
        "group_completion_callbacks": [callback.asdict()],
    }
    return lambda: MessageProxy(run.message_with_options(**options))


def finish(broker, message, **outcome):
    broker.emit_after("process_message", message, **(outcome or {"result": None}))


def test_the_callbacks_follow_the_last_member(broker, member):
    finish(broker, member())
    after_first = broker.queues["default"].qsize()

    finish(broker, member())

    assert after_first == 0
    sent = dramatiq.Message.decode(broker.queues["default"].get(timeout=1))
    assert sent.args == ("done",)


def test_a_member_that_is_delivered_again_counts_once(broker, member):
    message = member()

    for _ in range(3):
        finish(broker, message)

    assert broker.queues["default"].empty()


def test_a_last_member_that_is_delivered_again_calls_back_again(broker, member):
    finish(broker, member())
    last = member()

    for _ in range(2):
        finish(broker, last)

    assert broker.queues["default"].qsize() == 2


def test_a_member_that_failed_does_not_count(broker, member):
    finish(broker, member())

    finish(broker, member(), exception=RuntimeError())

    assert broker.queues["default"].empty()


def test_messages_outside_groups_are_left_alone(broker, member):
    message = member()
    message.options["group_completion_callbacks"] = []

    for _ in range(3):
        finish(broker, message)

    assert broker.queues["default"].empty()


def test_a_count_that_cannot_be_stored_keeps_the_message(broker, member):
    message = member()
    broker.middleware[0].rate_limiter_backend = RateLimiterBackend()

    finish(broker, message)

    assert isinstance(broker.follow_ups(message).error, NotImplementedError)


class RecordingStore:
    """Takes writes like a database, and keeps what they return."""

    def __init__(self):
        self.written = []

    def write(self, operation):
        self.written.append(operation(None))


def test_what_a_member_stores_is_there_before_it_is_counted(broker, member):
    finish(broker, member())
    last = member()
    store = RecordingStore()
    broker.follow_ups(last).operations.append((store, lambda _: broker.queues["default"].qsize()))

    finish(broker, last)

    assert store.written == [0]
    assert broker.queues["default"].qsize() == 1
    assert broker.follow_ups(last).operations == []


def test_counting_is_kept_off_an_event_loop(broker, member):
    finish(broker, member())
    last = member()
    token = _task_target.set(ThreadTarget())
    try:
        finish(broker, last)
    finally:
        _task_target.reset(token)
    at_once = broker.queues["default"].qsize()

    broker.follow_ups(last).run_deferred()

    assert at_once == 0
    assert broker.queues["default"].qsize() == 1


def test_the_barrier_lives_for_a_day_unless_told_otherwise(monkeypatch):
    assert GroupCallbacks(StubBackend()).barrier_ttl == 86_400_000
    assert GroupCallbacks(rate_limiter_backend=StubBackend(), barrier_ttl=5).barrier_ttl == 5

    monkeypatch.setenv("dramatiq_group_callback_barrier_ttl", "7")
    with pytest.warns(FutureWarning, match="barrier_ttl"):
        assert GroupCallbacks(StubBackend(), barrier_ttl=5).barrier_ttl == 7
