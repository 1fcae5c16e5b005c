# ruff: noqa: D102 - a test's name is its sentence.
"""What every result backend must do, as tests.

Inherit in a test module and supply the backend; pytest runs every test on it:

    class TestMyBackend(ResultBackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend()
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from ..common import dq_name
from ..encoder import JSONEncoder, PickleEncoder
from ..message import Message
from ..results import ResultBackend, ResultFailure, ResultMissing, ResultTimeout
from .waiting import run_together, wait_until

__all__ = ["ResultBackendContract"]

#: Milliseconds that no test outlives.
LONG = 60_000

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**80,
    0.1,
    1e308,
    "",
    "text",
    "naïve ☃ \U0001f409",
    "nul \x00, newline \n, separator \u2028",
    "' OR 1=1; --",
    [],
    {},
    [1, [2, [3, [None]]]],
    {"": {"nested": {"": []}}},
    {"__t": "something else"},
    {"__t": "dramatiq.results.Result"},
    {"exn": {"type": "ValueError", "msg": "not an envelope"}},
    "x" * 1_000_000,
]


def make_message(**fields: Any) -> Message[Any]:
    """Return a message with a fresh id, and anything else as wanted."""
    defaults: dict[str, Any] = {
        "queue_name": "default",
        "actor_name": "add",
        "args": (),
        "kwargs": {},
        "options": {},
    }
    return Message(**{**defaults, **fields})


class ResultBackendContract:
    """Tests of a result backend.

    Subclasses supply a fixture ``backend`` with a JSON encoder, and may adjust the attributes.
    """

    #: Shortest time to live that the backend tells from none, in milliseconds.
    smallest_ttl: ClassVar[int] = 50
    #: Shortest timeout of a blocking read that the backend honours, in milliseconds.
    smallest_timeout: ClassVar[int] = 50

    # -- values

    def test_there_is_no_result_before_one_is_stored(self, backend: ResultBackend) -> None:
        message = make_message()

        with pytest.raises(ResultMissing) as missing:
            backend.get_result(message)

        assert missing.value.message is message

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
    def test_a_value_comes_back_as_it_was(self, backend: ResultBackend, value: Any) -> None:
        message = make_message()

        backend.store_result(message, value, LONG)

        result = backend.get_result(message)
        assert result == value
        assert type(result) is type(value)

    def test_reading_does_not_consume_the_result(self, backend: ResultBackend) -> None:
        message = make_message()
        backend.store_result(message, 42, LONG)

        results = [backend.get_result(message, block=block) for block in (False, True) * 3]

        assert results == [42] * 6

    def test_a_later_result_replaces_an_earlier_one(self, backend: ResultBackend) -> None:
        message = make_message()
        backend.store_result(message, "earlier", LONG)

        backend.store_result(message, "later", LONG)

        assert backend.get_result(message) == "later"

    def test_what_cannot_be_encoded_is_refused_and_changes_nothing(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        backend.store_result(message, "earlier", LONG)

        with pytest.raises(TypeError):
            backend.store_result(message, object(), LONG)

        assert backend.get_result(message) == "earlier"

    def test_another_encoder_carries_other_values(self, backend: ResultBackend) -> None:
        message = make_message()
        backend.encoder = PickleEncoder()

        backend.store_result(message, (1, {2, 3}, b"\xff"), LONG)

        assert backend.get_result(message) == (1, {2, 3}, b"\xff")

    def test_a_subclass_may_turn_stored_data_into_something_else(
        self, backend: ResultBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        message = make_message()
        backend.store_result(message, 20, LONG)

        monkeypatch.setattr(backend, "unwrap_result", lambda res: res + 1)

        assert backend.get_result(message) == 21
        assert backend.get_result(message, block=True) == 21

    # -- failures

    def test_a_failure_is_raised_with_the_type_and_text_of_its_exception(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        backend.store_exception(message, RuntimeError("failed"), LONG)

        for block in (False, True):
            with pytest.raises(ResultFailure) as failure:
                backend.get_result(message, block=block)

            assert str(failure.value) == "actor raised RuntimeError: failed"
            assert failure.value.orig_exc_type == "RuntimeError"
            assert failure.value.orig_exc_msg == "failed"

    @pytest.mark.parametrize("text", ["", "two\nlines", "☃ \x00", "%s {} '"])
    def test_a_failure_keeps_unusual_texts(self, backend: ResultBackend, text: str) -> None:
        message = make_message()
        backend.store_exception(message, ValueError(text), LONG)

        with pytest.raises(ResultFailure) as failure:
            backend.get_result(message)

        assert failure.value.orig_exc_msg == text

    def test_a_result_replaces_a_failure_and_the_other_way_round(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()

        backend.store_exception(message, RuntimeError(), LONG)
        backend.store_result(message, "recovered", LONG)
        recovered = backend.get_result(message)
        backend.store_exception(message, RuntimeError(), LONG)

        assert recovered == "recovered"
        with pytest.raises(ResultFailure):
            backend.get_result(message)

    # -- keys

    def test_a_delayed_message_has_the_result_of_the_message_it_becomes(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        delayed = message.copy(queue_name=dq_name(message.queue_name), options={"eta": 1})

        backend.store_result(message, "done", LONG)

        assert backend.get_result(delayed) == "done"

    @pytest.mark.parametrize("field", ["queue_name", "actor_name", "message_id"])
    def test_other_messages_have_other_results(self, backend: ResultBackend, field: str) -> None:
        message = make_message()
        other = message.copy(**{field: "other"})

        backend.store_result(message, "mine", LONG)

        with pytest.raises(ResultMissing):
            backend.get_result(other)

    def test_a_namespace_sees_its_own_results_only(self, backend: ResultBackend) -> None:
        message = make_message()
        backend.store_result(message, "here", LONG)
        home = backend.namespace

        backend.namespace = "elsewhere"
        with pytest.raises(ResultMissing):
            backend.get_result(message)
        backend.store_result(message, "there", LONG)

        backend.namespace = home
        assert backend.get_result(message) == "here"

    def test_readable_and_hashed_keys_do_not_stand_in_for_each_other(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        readable = f"{backend.namespace}:default:add:{message.message_id}"
        assert len(backend.build_message_key(message)) == 32
        backend.store_result(message, "hashed", LONG)

        backend.use_namespace_prefix_keys = True

        assert backend.build_message_key(message) == readable
        with pytest.raises(ResultMissing):
            backend.get_result(message)

    def test_messages_with_unusual_names_have_results(self, backend: ResultBackend) -> None:
        backend.use_namespace_prefix_keys = True
        messages = [
            make_message(actor_name=name, message_id=name) for name in ("naïve☃", "a'b", 'a"b%s')
        ]

        for message in messages:
            backend.store_result(message, message.actor_name, LONG)

        assert [backend.get_result(message) for message in messages] == [
            message.actor_name for message in messages
        ]

    # -- time to live

    def test_a_result_is_gone_after_its_time_to_live(self, backend: ResultBackend) -> None:
        message = make_message()

        backend.store_result(message, "short-lived", self.smallest_ttl)

        wait_until(lambda: self._is_missing(backend, message))
        with pytest.raises(ResultTimeout):
            backend.get_result(message, block=True, timeout=self.smallest_timeout)

    def test_storing_again_starts_the_time_to_live_anew(self, backend: ResultBackend) -> None:
        renewed, not_renewed = make_message(), make_message()
        for message in (renewed, not_renewed):
            backend.store_result(message, "first", self.smallest_ttl)

        backend.store_result(renewed, "second", LONG)

        wait_until(lambda: self._is_missing(backend, not_renewed))
        assert backend.get_result(renewed) == "second"

    def test_an_expired_result_can_be_stored_anew(self, backend: ResultBackend) -> None:
        message = make_message()
        backend.store_result(message, "first", self.smallest_ttl)
        wait_until(lambda: self._is_missing(backend, message))

        backend.store_result(message, "second", LONG)

        assert backend.get_result(message) == "second"

    def _is_missing(self, backend: ResultBackend, message: Message[Any]) -> bool:
        try:
            backend.get_result(message)
        except ResultMissing:
            return True
        return False

    # -- waiting

    def test_a_blocking_read_times_out_when_there_is_no_result(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        started_at = time.monotonic()

        with pytest.raises(ResultTimeout) as timed_out:
            backend.get_result(message, block=True, timeout=self.smallest_timeout)

        assert timed_out.value.message is message
        assert time.monotonic() - started_at < self.smallest_timeout / 1000 + 2

    def test_a_blocking_read_without_time_looks_once(self, backend: ResultBackend) -> None:
        message = make_message()
        with pytest.raises(ResultTimeout):
            backend.get_result(message, block=True, timeout=0)

        backend.store_result(message, "there", LONG)

        assert backend.get_result(message, block=True, timeout=0) == "there"

    def test_a_blocking_read_returns_when_the_result_is_stored(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(backend.get_result, message, block=True, timeout=20_000)

            backend.store_result(message, "at last", LONG)

            assert reading.result(timeout=10) == "at last"

    def test_every_waiting_reader_gets_the_result(self, backend: ResultBackend) -> None:
        message = make_message()
        started = threading.Barrier(5)

        def read() -> Any:
            started.wait(10)
            return backend.get_result(message, block=True, timeout=20_000)

        with ThreadPoolExecutor(4) as pool:
            readings = [pool.submit(read) for _ in range(4)]
            started.wait(10)
            backend.store_result(message, "for all", LONG)

            assert [reading.result(timeout=10) for reading in readings] == ["for all"] * 4

    # -- many at a time

    def test_threads_that_store_at_once_lose_nothing(self, backend: ResultBackend) -> None:
        messages = [make_message() for _ in range(200)]

        def store(index: int) -> None:
            for message in messages[index::8]:
                backend.store_result(message, message.message_id, LONG)

        run_together(8, store)

        assert [backend.get_result(m) for m in messages] == [m.message_id for m in messages]

    def test_threads_that_store_the_same_result_leave_a_whole_one(
        self, backend: ResultBackend
    ) -> None:
        message = make_message()
        values = [[index] * 1000 for index in range(8)]

        run_together(8, lambda index: backend.store_result(message, values[index], LONG))

        assert backend.get_result(message) in values

    def test_an_encoder_is_chosen_when_the_backend_is_made(self, backend: ResultBackend) -> None:
        assert isinstance(backend.encoder, JSONEncoder)
