from __future__ import annotations

import json

import pytest

from dramatiq.history.arguments import CUT, REDACTED, describe_arguments, limit_end, limit_start


def charge(user, card, *notes, currency="EUR"):
    """Has arguments of every kind."""


def describe(*args, redact=(), limit=2_000, function=charge, **kwargs):
    text = describe_arguments("charge", function, args, kwargs, redact=redact, limit=limit)
    return json.loads(text)


def test_arguments_are_encoded_as_json():
    assert {"args": [1, "ä"], "kwargs": {"x": None}} == describe(1, "ä", x=None)


def test_what_json_does_not_know_is_shown_as_python_does():
    assert {"args": ["{1}"], "kwargs": {}} == describe({1})


def test_names_are_redacted_wherever_they_occur():
    secret = {"card", "token"}

    found = describe(
        "ann", "4711", [{"token": 1, "a": 2}], redact=secret, card=1, more={"token": 0}
    )

    assert ["ann", REDACTED, [{"token": REDACTED, "a": 2}]] == found["args"]
    assert {"card": REDACTED, "more": {"token": REDACTED}} == found["kwargs"]


@pytest.mark.parametrize("function", [None, type])
def test_positional_arguments_without_known_names_are_all_redacted(function):
    assert describe("4711", "ann", redact={"x"}, function=function)["args"] == [REDACTED] * 2


def test_a_function_decides_what_is_recorded():
    def redact(actor_name, args, kwargs):
        return [actor_name, *args[1:]], {**kwargs, "seen": True}

    found = describe("4711", 2, redact=redact, a=1)

    assert {"args": ["charge", 2], "kwargs": {"a": 1, "seen": True}} == found


def test_long_texts_are_cut_at_the_end_that_tells_less():
    assert limit_end("abcdef", 6) == limit_start("abcdef", 6) == "abcdef"
    assert limit_end("abcdef", 3) == f"ab{CUT}"
    assert limit_start("abcdef", 3) == f"{CUT}ef"


def test_arguments_are_no_longer_than_allowed():
    arguments = {"redact": (), "limit": 20}

    assert len(describe_arguments("a", None, ["x" * 100], {}, **arguments)) == 20
    assert describe_arguments("a", None, ["x"], {}, redact=(), limit=0) == ""
