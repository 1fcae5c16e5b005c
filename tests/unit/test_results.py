from __future__ import annotations

import hashlib
import pickle
import sys
import time

import pytest

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.delivery import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import Pipelines, Retries, SkipMessage
from dramatiq.results import (
    Missing,
    ResultBackend,
    ResultFailure,
    ResultMissing,
    Results,
    ResultTimeout,
    backends,
)
from dramatiq.results.backend import BACKOFF_FACTOR, DEFAULT_TIMEOUT
from dramatiq.results.backends import StubBackend
from dramatiq.results.middleware import DEFAULT_RESULT_TTL
from dramatiq.results.result import unwrap_result, wrap_exception, wrap_result
from dramatiq.threading import ThreadTarget, _task_target


def make_message(**fields):
    defaults = {
        "queue_name": "default",
        "actor_name": "add",
        "args": (),
        "kwargs": {},
        "options": {},
        "message_id": "id",
    }
    return Message(**{**defaults, **fields})


@pytest.fixture
def backend():
    yield StubBackend()
    StubBackend.results.clear()


@pytest.fixture
def broker(backend, monkeypatch):
    broker = StubBroker(middleware=[Pipelines(), Retries()])
    broker.add_middleware(Results(backend=backend))
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    return broker


# -- stored format


def test_values_are_stored_bare_and_exceptions_in_an_envelope():
    assert wrap_result({"a": 1}) == {"a": 1}
    assert wrap_exception(ValueError("bad")) == {
        "__t": "dramatiq.results.Result",
        "exn": {"type": "ValueError", "msg": "bad"},
    }


def test_only_the_envelope_is_a_failure():
    for value in (None, 1, [], {"__t": "dramatiq.results.Result"}, {"exn": {}}):
        assert unwrap_result(value) == value

    with pytest.raises(ResultFailure, match="actor raised ValueError: bad"):
        unwrap_result(wrap_exception(ValueError("bad")))


def test_keys_are_hashed_unless_readable_ones_are_wanted():
    message = make_message(queue_name="mail.DQ")
    readable = "dramatiq-results:mail:add:id"

    hashed = hashlib.md5(readable.encode()).hexdigest()  # noqa: S324 - the stored format

    assert ResultBackend().build_message_key(message) == hashed
    assert ResultBackend(use_namespace_prefix_keys=True).build_message_key(message) == readable


def test_missing_is_one_object_that_says_what_it_is():
    assert pickle.loads(pickle.dumps(Missing)) is Missing
    assert repr(Missing) == "Missing"


# -- the contract of backends


def test_the_base_backend_implements_nothing():
    class Nothing(ResultBackend):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing does not implement _get\(\)"):
        Nothing().get_result(make_message())
    with pytest.raises(NotImplementedError, match=r"Nothing does not implement _store\(\)"):
        Nothing().store_result(make_message(), 1, 1)


def test_an_encoder_is_captured_when_the_backend_is_made(monkeypatch):
    encoder = dramatiq.PickleEncoder()
    monkeypatch.setattr(dramatiq.message, "global_encoder", encoder)
    backend = ResultBackend()

    monkeypatch.undo()

    assert backend.encoder is encoder
    assert ResultBackend(encoder=encoder).encoder is encoder


def test_a_blocking_read_gives_up_before_a_pause_past_its_deadline(backend):
    started_at = time.monotonic()

    with pytest.raises(ResultTimeout):
        backend.get_result(make_message(), block=True, timeout=BACKOFF_FACTOR - 1)

    assert time.monotonic() - started_at < BACKOFF_FACTOR / 1000


def test_the_default_timeout_is_read_when_it_is_used(backend, monkeypatch):
    assert DEFAULT_TIMEOUT == 10_000
    monkeypatch.setattr("dramatiq.results.backend.DEFAULT_TIMEOUT", 1)

    with pytest.raises(ResultTimeout):
        backend.get_result(make_message(), block=True)


def test_a_message_asks_the_process_wide_broker_for_its_result(broker, backend):
    message = make_message()
    backend.store_result(message, 42, 1000)

    assert message.get_result() == 42
    assert message.get_result(backend=backend) == 42


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
    with pytest.raises(AttributeError, match="no attribute 'Unknown'"):
        backends.Unknown  # noqa: B018 - looking is the test


# -- the middleware


def declare(broker, **options):
    @dramatiq.actor(broker=broker, **options)
    def add():
        pass

    return add


def finish(broker, message, **outcome):
    broker.emit_after("process_message", message, **outcome)


def test_results_last_ten_minutes_unless_told_otherwise(backend):
    assert Results(backend=backend).result_ttl == DEFAULT_RESULT_TTL == 600_000
    assert Results(backend=backend, result_ttl=0).result_ttl == 600_000
    assert Results(backend=backend, result_ttl=5).result_ttl == 5


@pytest.mark.parametrize(
    ("middleware", "actor", "message", "stored"),
    [
        (False, {}, {}, False),
        (True, {}, {}, True),
        (True, {"store_results": False}, {}, False),
        (False, {"store_results": True}, {}, True),
        (False, {"store_results": False}, {"store_results": True}, True),
        (True, {"store_results": True}, {"store_results": False}, False),
    ],
)
def test_the_message_decides_before_the_actor_before_the_middleware(
    broker, middleware, actor, message, stored
):
    broker.middleware[-1].store_results = middleware
    proxy = MessageProxy(declare(broker, **actor).message_with_options(**message))

    finish(broker, proxy, result=42)

    if stored:
        assert proxy.get_result() == 42
    else:
        with pytest.raises(ResultMissing):
            proxy.get_result()


@pytest.mark.parametrize(
    ("actor", "message", "ttl"),
    [({}, {}, 600), ({"result_ttl": 5000}, {}, 5), ({"result_ttl": 1}, {"result_ttl": 9000}, 9)],
)
def test_the_time_to_live_is_decided_alike(broker, backend, actor, message, ttl):
    add = declare(broker, store_results=True, **actor)
    proxy = MessageProxy(add.message_with_options(**message))

    finish(broker, proxy, result=42)

    [(_, expires_at)] = backend.results.values()
    assert ttl - 2 < expires_at - time.monotonic() <= ttl


def test_none_is_a_result(broker):
    proxy = MessageProxy(declare(broker, store_results=True).message())

    finish(broker, proxy, result=None)

    assert proxy.get_result() is None


def test_a_result_nobody_keeps_is_warned_of(broker, caplog):
    proxy = MessageProxy(declare(broker).message())

    finish(broker, proxy, result=42)

    assert "the value has been discarded" in caplog.text


def test_a_result_that_goes_to_the_next_step_is_not_warned_of(broker, caplog):
    add = declare(broker)
    pipeline = add.message() | add.message()

    finish(broker, MessageProxy(pipeline.messages[0]), result=42)

    assert "discarded" not in caplog.text


def test_a_failure_is_no_result_while_it_may_be_retried(broker):
    proxy = MessageProxy(declare(broker, store_results=True).message())

    finish(broker, proxy, exception=RuntimeError("failed"))

    with pytest.raises(ResultMissing):
        proxy.get_result()


def test_a_failure_is_stored_when_the_message_is_given_up(broker):
    proxy = MessageProxy(declare(broker, store_results=True).message())
    proxy.fail()
    proxy.stuff_exception(RuntimeError("failed"))

    broker.emit_after("nack", proxy)

    with pytest.raises(ResultFailure, match="actor raised RuntimeError: failed"):
        proxy.get_result()


def test_a_failure_without_exception_is_unknown(broker):
    proxy = MessageProxy(declare(broker, store_results=True).message())
    proxy.fail()

    broker.emit_after("nack", proxy)

    with pytest.raises(ResultFailure, match="actor raised Exception: unknown"):
        proxy.get_result()


def test_a_skipped_message_has_the_result_none_unless_it_failed(broker):
    skipped, failed = (
        MessageProxy(declare(broker, actor_name=name, store_results=True).message())
        for name in ("skipped", "failed")
    )
    failed.fail()
    failed.stuff_exception(SkipMessage("too old"))

    for proxy in (skipped, failed):
        broker.emit_after("skip_message", proxy)
    broker.emit_after("nack", failed)

    assert skipped.get_result() is None
    with pytest.raises(ResultFailure, match="actor raised SkipMessage: too old"):
        failed.get_result()


def test_a_message_for_an_unknown_actor_is_left_alone(broker, backend):
    message = make_message(actor_name="unknown")
    middleware = broker.middleware[-1]

    middleware.after_nack(broker, message)
    middleware.after_skip_message(broker, message)
    middleware.after_process_message(broker, message, result=42)

    assert backend.results == {}


def test_a_result_that_cannot_be_encoded_becomes_a_failure_and_spares_the_message(broker, caplog):
    proxy = MessageProxy(declare(broker, store_results=True).message())

    finish(broker, proxy, result=object())

    assert broker.follow_ups(proxy).error is None
    assert "cannot be encoded by JSONEncoder" in caplog.text
    with pytest.raises(ResultFailure, match="TypeError"):
        proxy.get_result()


class UnreachableBackend(StubBackend):
    def _store(self, message_key, result, ttl):
        raise OSError("no route to host")


def test_a_store_that_cannot_be_reached_keeps_the_message(broker):
    broker.middleware[-1].backend = UnreachableBackend()
    proxy = MessageProxy(declare(broker, store_results=True).message())

    finish(broker, proxy, result=42)

    assert isinstance(broker.follow_ups(proxy).error, OSError)


class SlowBackend(StubBackend):
    def may_block(self, follow_ups):
        return True


def test_a_store_that_may_block_is_kept_off_an_event_loop(broker):
    broker.middleware[-1].backend = SlowBackend()
    proxy = MessageProxy(declare(broker, store_results=True).message())
    token = _task_target.set(ThreadTarget())
    try:
        finish(broker, proxy, result=42)
    finally:
        _task_target.reset(token)
    with pytest.raises(ResultMissing):
        proxy.get_result()

    broker.follow_ups(proxy).run_deferred()

    assert proxy.get_result() == 42


def test_a_store_in_memory_is_written_to_on_an_event_loop(broker):
    proxy = MessageProxy(declare(broker, store_results=True).message())
    token = _task_target.set(ThreadTarget())
    try:
        finish(broker, proxy, result=42)
    finally:
        _task_target.reset(token)

    assert proxy.get_result() == 42
