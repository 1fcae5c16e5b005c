from __future__ import annotations

import datetime
import decimal

import pytest

from dramatiq import (
    DecodeError,
    Encoder,
    JSONEncoder,
    Message,
    PickleEncoder,
    get_encoder,
    set_encoder,
)


@pytest.fixture
def restored_encoder():
    encoder = get_encoder()
    yield encoder
    set_encoder(encoder)


def test_the_base_class_cannot_be_used():
    with pytest.raises(TypeError):
        Encoder()


def test_a_subclass_must_do_both():
    class Half(Encoder):
        def encode(self, data):
            return b""

    with pytest.raises(TypeError):
        Half()


# -- JSON


@pytest.mark.parametrize(
    ("data", "encoded"),
    [
        ({}, b"{}"),
        ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
        ({"a": (1, (2,))}, b'{"a":[1,[2]]}'),
        ({"text": "é☃"}, rb'{"text":"\u00e9\u2603"}'),
        ({"big": 2**70}, b'{"big":1180591620717411303424}'),
    ],
)
def test_json_is_compact_ascii(data, encoded):
    assert encoded == JSONEncoder().encode(data)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", datetime.datetime(2026, 1, 1), decimal.Decimal(1)],
    ids=lambda value: type(value).__name__,
)
def test_json_refuses_what_it_does_not_know(value):
    with pytest.raises(TypeError):
        JSONEncoder().encode({"value": value})


def test_json_comes_back():
    encoder = JSONEncoder()
    data = {"text": "é☃", "list": [1, {"nested": None}]}

    assert data == encoder.decode(encoder.encode(data))


def test_bad_utf8_is_a_decode_error_about_the_bytes():
    data = b'{"a": "\xff"}'

    with pytest.raises(DecodeError) as caught:
        JSONEncoder().decode(data)

    assert caught.value.data is data
    assert isinstance(caught.value.error, UnicodeDecodeError)


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"a":1} more'])
def test_bad_json_is_a_decode_error_about_the_text(text):
    with pytest.raises(DecodeError) as caught:
        JSONEncoder().decode(text.encode())

    assert text == caught.value.data
    assert isinstance(caught.value.error, ValueError)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 1_000_000])
def test_hostile_json_is_a_decode_error_too(data):
    with pytest.raises(DecodeError):
        JSONEncoder().decode(data)


# -- pickle


def test_pickle_carries_python_objects():
    encoder = PickleEncoder()
    data = {"when": datetime.datetime(2026, 1, 1), "what": {1, 2}, "pair": (1, 2)}

    assert data == encoder.decode(encoder.encode(data))


# -- the one of the process


def test_json_is_the_default():
    assert isinstance(get_encoder(), JSONEncoder)


def test_messages_use_the_encoder_of_the_moment(restored_encoder):
    message = Message("default", "work", (datetime.date(2026, 1, 1),), {}, {})

    set_encoder(PickleEncoder())

    assert isinstance(get_encoder(), PickleEncoder)
    assert message == Message.decode(message.encode())
