from __future__ import annotations

import logging

import pytest

import dramatiq
from dramatiq import Message, MessageProxy, Retry
from dramatiq.common import current_millis
from dramatiq.middleware import Retries, Shutdown

MAXIMUM = 604_800_000
ROUNDS = 100


def queued(broker, queue_name="default.DQ"):
    queue = broker.queues[queue_name]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


def proxy_with(**options):
    return MessageProxy(Message("default", "work", (1,), {"a": 2}, options))


@pytest.fixture
def declare(stub_broker):
    def declare(**options):
        return dramatiq.actor(lambda *args: None, actor_name="work", **options)

    return declare


@pytest.fixture
def delays(stub_broker, monkeypatch):
    """The delays with which messages were enqueued."""
    delays = []
    monkeypatch.setattr(
        stub_broker, "enqueue", lambda message, *, delay=None: delays.append(delay) or message
    )
    return delays


def fail(middleware, broker, proxy, error=None):
    middleware.after_process_message(broker, proxy, exception=error or ValueError("wrong"))


# -- retrying


def test_success_is_not_retried(stub_broker, declare):
    declare()
    proxy = proxy_with()

    Retries().after_process_message(stub_broker, proxy, result=None)

    assert queued(stub_broker) == []
    assert (proxy.failed, proxy.options) == (False, {})


def test_a_failed_message_is_enqueued_again_with_a_delay(stub_broker, declare):
    declare()
    proxy = proxy_with(extra="x")
    before = current_millis()

    fail(Retries(), stub_broker, proxy)

    [retry] = queued(stub_broker)
    assert not proxy.failed
    assert (retry.message_id, retry.args, retry.kwargs) == (proxy.message_id, (1,), {"a": 2})
    assert retry.message_timestamp == proxy.message_timestamp
    assert (retry.options["retries"], retry.options["extra"]) == (1, "x")
    assert before + 15_000 <= retry.options["eta"] <= current_millis() + 30_000


@pytest.mark.parametrize(
    "error", [ValueError(), Retry(), Shutdown(), dramatiq.RateLimitExceeded("x")]
)
def test_whatever_is_raised_is_retried(stub_broker, declare, delays, error):
    declare()

    fail(Retries(), stub_broker, proxy_with(), error)

    assert len(delays) == 1


def test_the_failure_is_described_in_the_options(stub_broker, declare, delays):
    declare()
    proxy = proxy_with()
    before = current_millis()

    try:
        raise ValueError("wrong")
    except ValueError as error:
        fail(Retries(), stub_broker, proxy, error)

    assert proxy.options["retries"] == 1
    assert proxy.options["traceback"].startswith("Traceback (most recent call last):")
    assert proxy.options["traceback"].rstrip().endswith("ValueError: wrong")
    assert before <= proxy.options["requeue_timestamp"] <= current_millis()


def test_the_traceback_has_at_most_30_frames(stub_broker, declare, delays):
    declare()
    proxy = proxy_with()

    def dive(depth):
        # Each frame has another line, so that none of them is summed up as a repetition.
        functions = {}
        source = "\n".join(
            f"def f{n}(): f{n - 1}()" if n else "def f0(): raise ValueError('wrong')"
            for n in range(depth)
        )
        exec(source, functions)  # noqa: S102 (our own source)
        functions[f"f{depth - 1}"]()

    try:
        dive(100)
    except ValueError as error:
        fail(Retries(), stub_broker, proxy, error)

    lines = proxy.options["traceback"].splitlines()
    assert len([line for line in lines if line.startswith("  File ")]) <= 30


def test_every_failure_counts(stub_broker, declare, delays):
    declare()
    proxy = proxy_with()
    middleware = Retries()

    for n in range(1, 4):
        fail(middleware, stub_broker, proxy)
        assert proxy.options["retries"] == n


def test_a_retry_is_logged(stub_broker, declare, delays, caplog):
    caplog.set_level(logging.INFO)
    declare()
    proxy = proxy_with()

    fail(Retries(), stub_broker, proxy)

    [record] = caplog.records
    assert (record.name, record.levelno) == (
        "dramatiq.middleware.retries.Retries",
        logging.INFO,
    )
    assert proxy.message_id in record.getMessage()


def test_the_hooks_of_enqueueing_run_again(stub_broker, declare):
    seen = []

    class Seeing(dramatiq.Middleware):
        def before_enqueue(self, broker, message, delay):
            seen.append((message.options["retries"], delay))

    stub_broker.add_middleware(Seeing())
    declare(max_backoff=0)

    fail(Retries(), stub_broker, proxy_with())

    assert seen == [(1, 0)]


# -- giving up


@pytest.mark.parametrize(
    ("constructor", "actor", "message", "retries", "is_exhausted"),
    [
        ({}, {}, {}, 19, False),
        ({}, {}, {}, 20, True),
        ({"max_retries": 0}, {}, {}, 0, True),
        ({"max_retries": 3}, {}, {}, 2, False),
        ({"max_retries": 3}, {}, {}, 3, True),
        ({"max_retries": 3}, {}, {}, 4, True),
        ({"max_retries": None}, {}, {}, 1_000_000, False),
        ({"max_retries": 3}, {"max_retries": 5}, {}, 4, False),
        ({"max_retries": 3}, {"max_retries": None}, {}, 9, False),
        ({"max_retries": 3}, {"max_retries": 5}, {"max_retries": 1}, 1, True),
        ({"max_retries": 3}, {"max_retries": 5}, {"max_retries": 0}, 0, True),
        ({"max_retries": 3}, {"max_retries": 5}, {"max_retries": None}, 9, False),
    ],
)
def test_retries_are_limited(
    stub_broker, declare, delays, constructor, actor, message, retries, is_exhausted
):
    declare(**actor)
    proxy = proxy_with(retries=retries, **message)

    fail(Retries(**constructor), stub_broker, proxy)

    assert proxy.failed is is_exhausted
    assert len(delays) == (0 if is_exhausted else 1)
    assert proxy.options["retries"] == retries + 1


def test_giving_up_is_logged(stub_broker, declare, caplog):
    declare(max_retries=0)
    proxy = proxy_with()

    fail(Retries(), stub_broker, proxy)

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert proxy.message_id in record.getMessage()


@pytest.mark.parametrize("where", ["constructor", "actor"])
def test_a_predicate_decides_alone(stub_broker, declare, delays, where):
    calls = []

    def retry_when(retries, error):
        calls.append((retries, error))
        return retries < 2

    declare(max_retries=0, **({"retry_when": retry_when} if where == "actor" else {}))
    middleware = Retries(retry_when=retry_when if where == "constructor" else None)
    proxy = proxy_with()
    error = ValueError()

    for _ in range(3):
        fail(middleware, stub_broker, proxy, error)

    assert calls == [(0, error), (1, error), (2, error)]
    assert (len(delays), proxy.failed) == (2, True)


def test_the_predicate_of_the_actor_comes_first(stub_broker, declare, delays):
    declare(retry_when=lambda retries, error: True)

    fail(Retries(retry_when=lambda retries, error: False), stub_broker, proxy_with())

    assert len(delays) == 1


def test_the_predicate_is_never_read_from_the_message(stub_broker, declare, delays):
    declare()

    fail(Retries(), stub_broker, proxy_with(retry_when=lambda retries, error: False))

    assert len(delays) == 1


@pytest.mark.parametrize("answer", [None, 0, ""])
def test_a_predicate_may_answer_anything_falsy(stub_broker, declare, delays, answer):
    declare(retry_when=lambda retries, error: answer)
    proxy = proxy_with()

    fail(Retries(), stub_broker, proxy)

    assert (proxy.failed, delays) == (True, [])


@pytest.mark.parametrize("where", ["actor", "message"])
@pytest.mark.parametrize("throws", [KeyError, (IndexError, KeyError), LookupError])
def test_expected_exceptions_are_not_retried(stub_broker, declare, delays, caplog, where, throws):
    caplog.set_level(logging.INFO)
    declare(**({"throws": throws} if where == "actor" else {}))
    proxy = proxy_with(**({"throws": throws} if where == "message" else {}))
    options = dict(proxy.options)

    fail(Retries(), stub_broker, proxy, KeyError())

    assert (proxy.failed, delays) == (True, [])
    assert proxy.options == options
    [record] = caplog.records
    assert (record.levelno, record.msg) == (logging.INFO, "Aborting message %r.")


def test_other_exceptions_than_the_expected_are_retried(stub_broker, declare, delays):
    declare(throws=KeyError)

    fail(Retries(), stub_broker, proxy_with(), ValueError())

    assert len(delays) == 1


# -- telling that it gave up


@pytest.fixture
def exhausted(stub_broker):
    return dramatiq.actor(lambda data, retries: None, actor_name="exhausted", queue_name="calls")


@pytest.mark.parametrize("where", ["actor", "message"])
def test_an_actor_is_told_when_retries_are_exhausted(stub_broker, declare, exhausted, where):
    option = {"on_retry_exhausted": "exhausted"}
    declare(max_retries=2, **(option if where == "actor" else {}))
    proxy = proxy_with(retries=2, **(option if where == "message" else {}))

    fail(Retries(), stub_broker, proxy)

    [message] = queued(stub_broker, "calls")
    assert message.actor_name == "exhausted"
    assert message.args == (
        {**proxy.asdict(), "args": [1]},
        {"retries": 2, "max_retries": 2},
    )


def test_nobody_is_told_of_retries_success_or_expected_exceptions(stub_broker, declare, exhausted):
    declare(on_retry_exhausted="exhausted", throws=KeyError)
    middleware = Retries()

    fail(middleware, stub_broker, proxy_with())
    fail(middleware, stub_broker, proxy_with(), KeyError())
    middleware.after_process_message(stub_broker, proxy_with(), result=1)

    assert queued(stub_broker, "calls") == []


def test_the_predicate_can_exhaust_retries_too(stub_broker, declare, exhausted):
    declare(retry_when=lambda retries, error: False, on_retry_exhausted="exhausted")

    fail(Retries(), stub_broker, proxy_with())

    assert queued(stub_broker, "calls")[0].args[1] == {"retries": 0, "max_retries": 20}


# -- backoff


@pytest.mark.parametrize(
    ("constructor", "actor", "message", "retries", "low", "high"),
    [
        ({}, {}, {}, 0, 15_000, 30_000),
        ({}, {}, {}, 2, 60_000, 120_000),
        ({}, {}, {}, 19, MAXIMUM // 2, MAXIMUM),
        ({"min_backoff": 100}, {}, {}, 0, 100, 200),
        ({"min_backoff": 100, "max_backoff": 150}, {}, {}, 5, 75, 150),
        ({"min_backoff": 0, "max_backoff": 0}, {}, {}, 0, 15_000, 30_000),
        ({}, {"min_backoff": 100}, {}, 1, 200, 400),
        ({}, {"min_backoff": 0}, {}, 5, 0, 0),
        ({}, {"max_backoff": 0}, {}, 5, 0, 0),
        ({}, {"min_backoff": 1000, "max_backoff": 100}, {}, 0, 50, 100),
        ({}, {"min_backoff": 100}, {"min_backoff": 10}, 0, 10, 20),
        ({}, {"max_backoff": 100}, {"max_backoff": 10}, 5, 5, 10),
        ({}, {"min_backoff": 100}, {"min_backoff": 0}, 3, 0, 0),
        ({}, {"max_backoff": MAXIMUM * 9}, {}, 19, MAXIMUM // 2, MAXIMUM),
        ({"max_backoff": MAXIMUM * 9}, {}, {"max_backoff": MAXIMUM * 9}, 19, MAXIMUM // 2, MAXIMUM),
    ],
)
def test_backoff_grows_from_the_least_to_the_most(
    stub_broker, declare, delays, constructor, actor, message, retries, low, high
):
    declare(max_retries=None, **actor)
    middleware = Retries(**constructor)

    for _ in range(ROUNDS):
        fail(middleware, stub_broker, proxy_with(retries=retries, **message))

    assert len(delays) == ROUNDS
    assert all(low <= delay <= high for delay in delays)


@pytest.mark.parametrize("delay", [0, 1, 123, 10 * MAXIMUM])
def test_a_retry_with_a_delay_says_exactly_when(stub_broker, declare, delays, delay):
    declare(min_backoff=5)

    fail(Retries(), stub_broker, proxy_with(), Retry("again", delay=delay))

    assert delays == [delay]


def test_a_retry_without_a_delay_backs_off(stub_broker, declare, delays):
    declare(min_backoff=100)

    fail(Retries(), stub_broker, proxy_with(), Retry())

    assert 100 <= delays[0] <= 200


def test_a_retry_counts_like_any_failure(stub_broker, declare, delays):
    declare(max_retries=1)
    proxy = proxy_with()

    fail(Retries(), stub_broker, proxy, Retry(delay=1))
    fail(Retries(), stub_broker, proxy, Retry(delay=1))

    assert (delays, proxy.failed) == ([1], True)
