from __future__ import annotations

import copy
import dataclasses
import datetime
import pickle
import uuid
from typing import Any

import pytest

import dramatiq
from dramatiq import DecodeError, Message, MessageProxy, pipeline
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis
from dramatiq.message import generate_unique_id
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import StubBackend

FIELDS = (
    "queue_name",
    "actor_name",
    "args",
    "kwargs",
    "options",
    "message_id",
    "message_timestamp",
)


def make_message(**fields):
    defaults = {
        "queue_name": "default",
        "actor_name": "add",
        "args": (1, 2),
        "kwargs": {},
        "options": {},
    }
    return Message(**{**defaults, **fields})


# -- the fields


def test_the_fields_have_an_order():
    message = Message("q", "a", (1,), {"b": 2}, {"c": 3}, "id", 4)

    assert FIELDS == tuple(field.name for field in dataclasses.fields(Message))
    assert ("q", "a", (1,), {"b": 2}, {"c": 3}, "id", 4) == tuple(message.asdict().values())


def test_id_and_time_are_given_to_messages_that_have_none():
    before = current_millis()

    first, second = make_message(), make_message()

    assert str(uuid.UUID(first.message_id, version=4)) == first.message_id
    assert first.message_id != second.message_id
    assert isinstance(first.message_timestamp, int)
    assert before <= first.message_timestamp <= current_millis()


def test_unique_ids_are_uuids_in_text():
    assert uuid.UUID(generate_unique_id()).version == 4


@pytest.mark.parametrize("missing", FIELDS[:5])
def test_the_first_five_fields_are_required(missing):
    fields = {name: value for name, value in make_message().asdict().items() if name != missing}

    with pytest.raises(TypeError, match=missing):
        Message(**fields)


@pytest.mark.parametrize("args", [[1, 2], (n for n in (1, 2)), {1: "", 2: ""}, range(1, 3)])
def test_any_iterable_of_arguments_becomes_a_tuple(args):
    assert make_message(args=args).args == (1, 2)


@pytest.mark.parametrize("name", [*FIELDS, "anything"])
def test_attributes_cannot_be_assigned(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(make_message(), name, "other")


def test_options_and_kwargs_can_be_changed_in_place():
    message = make_message()

    message.options["retries"] = 1
    message.kwargs["more"] = 2

    assert ({"retries": 1}, {"more": 2}) == (message.options, message.kwargs)


def test_a_message_has_no_hash():
    with pytest.raises(TypeError):
        hash(make_message())


def test_a_message_is_generic_in_its_result():
    assert Message[Any]
    assert Message[int]


# -- comparing


def test_messages_are_equal_when_their_fields_are():
    message = make_message()

    assert message == message.copy()
    assert message != message.copy(args=(3,))
    assert message != make_message()
    assert message != message.asdict()


def test_a_message_equals_its_proxy_both_ways():
    message = make_message()

    assert message == MessageProxy(message)
    assert MessageProxy(message) == message
    assert message != MessageProxy(make_message())


def test_messages_can_be_sorted():
    first, second = make_message(queue_name="a"), make_message(queue_name="b")
    third = make_message(queue_name="b", args=(9,))

    assert [first, second, third] == sorted([third, second, first])
    with pytest.raises(TypeError):
        _ = first < 1


def test_messages_survive_pickling_and_copying():
    message = make_message(options={"nested": {"list": [1]}})

    assert message == pickle.loads(pickle.dumps(message))
    assert message == copy.copy(message)
    assert message == copy.deepcopy(message)


# -- to and from dictionaries and bytes


def test_the_dictionary_is_shallow():
    message = make_message(options={"nested": {}}, kwargs={"a": []})

    fields = message.asdict()

    assert FIELDS == tuple(fields)
    assert fields["args"] is message.args
    assert fields["kwargs"] is message.kwargs
    assert fields["options"] is message.options


def test_messages_look_like_namedtuples():
    message = make_message()

    assert FIELDS == Message._fields
    assert {} == Message._field_defaults
    assert message.asdict() == message._asdict()


def test_replacing_is_verbatim():
    message = make_message(options={"a": 1})

    replaced = message._replace(options={"b": 2}, queue_name="other")

    assert ({"b": 2}, "other") == (replaced.options, replaced.queue_name)
    assert message.message_id == replaced.message_id


def test_the_wire_format_is_json_in_field_order():
    message = make_message(options={"a": None}, message_id="id", message_timestamp=5)

    assert message.encode() == (
        b'{"queue_name":"default","actor_name":"add","args":[1,2],"kwargs":{},'
        b'"options":{"a":null},"message_id":"id","message_timestamp":5}'
    )


def test_a_message_comes_back_from_its_bytes():
    message = make_message(kwargs={"text": "é"}, options={"list": [1, [2]]})

    decoded = Message.decode(message.encode())

    assert message == decoded
    assert isinstance(decoded.args, tuple)


def test_values_that_cannot_be_encoded_are_type_errors_that_name_them():
    with pytest.raises(TypeError, match=r"add\(\): argument 'what' \(object\)"):
        make_message(kwargs={"what": object()}).encode()
    with pytest.raises(TypeError, match=r"option 'why' \(set\)"):
        make_message(options={"why": set()}).encode()


def test_positional_arguments_that_cannot_be_encoded_are_named_by_their_parameter(monkeypatch):
    broker = StubBroker()
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)

    @dramatiq.actor
    def add(left, right):
        pass

    with pytest.raises(TypeError, match=r"add\(\): argument 'right' \(set\)"):
        add.send(1, {2})


def test_an_actor_without_signature_does_not_hide_what_cannot_be_encoded(monkeypatch):
    broker = StubBroker()
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    largest = dramatiq.actor(max, actor_name="largest")

    with pytest.raises(TypeError, match=r"largest\(\): argument 0 \(set\)"):
        largest.send({2})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"queue_name":"q","actor_name":"a","args":null,"kwargs":{},"options":{}}',
        b'{"queue_name":"q","actor_name":"a","kwargs":{},"options":{}}',
        b'{"actor_name":"a","args":[],"kwargs":{},"options":{}}',
        b'{"queue_name":"q","actor_name":"a","args":[],"kwargs":{},"options":{},"more":1}',
    ],
)
def test_whatever_is_no_message_is_a_decode_error(data):
    with pytest.raises(DecodeError) as caught:
        Message.decode(data)

    error = caught.value
    assert ("Failed to decode message.", data) == (error.message, error.data)
    assert isinstance(error.error, Exception)
    assert error.__cause__ is error.error


def test_malformed_json_is_a_decode_error_in_a_decode_error():
    with pytest.raises(DecodeError) as caught:
        Message.decode(b"{")

    assert isinstance(caught.value.error, DecodeError)


# -- copying


def test_a_copy_keeps_id_and_time():
    message = make_message(message_timestamp=1)

    copied = message.copy(queue_name="other", args=[3])

    assert ("other", (3,)) == (copied.queue_name, copied.args)
    assert (message.message_id, 1) == (copied.message_id, copied.message_timestamp)
    assert "default" == message.queue_name


def test_a_copy_merges_options_into_a_new_dictionary():
    message = make_message(options={"a": 1, "b": 2})

    copied = message.copy(options={"b": 3, "c": 4})

    assert copied.options == {"a": 1, "b": 3, "c": 4}
    assert message.options == {"a": 1, "b": 2}


def test_id_and_time_can_be_replaced_by_a_copy():
    copied = make_message().copy(message_id="other", message_timestamp=1.5)

    assert ("other", 1.5) == (copied.message_id, copied.message_timestamp)


def test_unknown_fields_cannot_be_copied_in():
    with pytest.raises(TypeError):
        make_message().copy(unknown=1)


# -- in text


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "add()"),
        ((1, "two"), {}, "add(1, 'two')"),
        ((), {"a": None}, "add(a=None)"),
        ((1,), {"a": "b", "c": [2]}, "add(1, a='b', c=[2])"),
    ],
)
def test_a_message_reads_like_a_call(args, kwargs, text):
    assert text == str(make_message(args=args, kwargs=kwargs))


def test_the_representation_shows_every_field():
    message = Message("q", "a", (1,), {"b": 2}, {"c": 3}, "id", 4)

    assert repr(message) == (
        "Message(queue_name='q', actor_name='a', args=(1,), kwargs={'b': 2}, options={'c': 3}, "
        "message_id='id', message_timestamp=4)"
    )


# -- time


@pytest.mark.parametrize("timestamp", [0, 1, 1_700_000_000_123, 1_700_000_000_999, 253402300799999])
def test_the_datetime_is_exact_and_in_utc(timestamp):
    moment = make_message(message_timestamp=timestamp).message_datetime

    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert timestamp == (moment - epoch) // datetime.timedelta(milliseconds=1)
    assert moment.utcoffset() == datetime.timedelta(0)
    assert moment.microsecond % 1000 == 0


def test_the_datetime_takes_float_timestamps():
    message = make_message(message_timestamp=1_700_000_000_123.75)

    assert message.message_datetime.microsecond == 123_000


# -- composing and results


def test_messages_compose_into_pipelines():
    first, second = make_message(), make_message()

    chain = first | second

    assert isinstance(chain, pipeline)
    assert [first.message_id, second.message_id] == [each.message_id for each in chain.messages]


def test_messages_have_no_methods_of_others():
    assert not hasattr(Message, "with_options")
    assert not hasattr(Message, "pipe")


@pytest.fixture
def backend():
    yield StubBackend()
    StubBackend.results.clear()


def test_a_result_comes_from_the_given_backend(backend):
    message = make_message()
    backend.store_result(message, 3, 60_000)

    assert message.get_result(backend=backend) == 3
    assert message.get_result(backend=backend, block=True, timeout=10) == 3


def test_a_result_comes_from_the_backend_of_the_global_broker(backend, monkeypatch):
    broker = StubBroker()
    broker.add_middleware(Results(backend=backend))
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    message = make_message()

    with pytest.raises(ResultMissing) as caught:
        message.get_result()

    assert caught.value.message is message


def test_without_a_backend_there_are_no_results(monkeypatch):
    monkeypatch.setattr("dramatiq.broker.global_broker", StubBroker())

    with pytest.raises(RuntimeError, match="results backend"):
        make_message().get_result()
