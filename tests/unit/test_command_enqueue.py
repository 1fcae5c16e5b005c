from __future__ import annotations

import json
import sys
import types

import pytest

import dramatiq
from dramatiq.cli.commands.arguments import parse_value
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend
from dramatiq.results.result import wrap_exception, wrap_result


@pytest.fixture
def resize(inspected_broker, monkeypatch):
    @dramatiq.actor(queue_name="pictures")
    def resize(picture, width=100, *, sharpen=False):
        pass

    module = types.ModuleType("shop")
    module.broker = inspected_broker
    monkeypatch.setitem(sys.modules, "shop", module)
    return resize


@pytest.fixture
def sent(inspected_broker):
    """Return the messages that wait in a queue, with those that are delayed."""

    def take(queue_name):
        consumer = inspected_broker.consume(queue_name, prefetch=10, timeout=1)
        messages = [each._message for each in iter(consumer.__next__, None)]
        consumer.close()
        return messages

    return take


@pytest.fixture
def with_results(inspected_broker):
    backend = StubBackend()
    inspected_broker.add_middleware(Results(backend=backend))
    return backend


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("5", 5),
        ("-2.5", -2.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('"5"', "5"),
        ("World", "World"),
        ("True", "True"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_words_are_json_where_they_can_be_and_else_text(word, value):
    assert parse_value(word) == value
    assert type(parse_value(word)) is type(value)


def test_a_message_is_sent_and_its_id_printed(command, resize, sent):
    code, output, errors = command(
        "enqueue", "shop:broker", "resize", "17", "-k", "sharpen=true", "--option", "max_retries=3"
    )

    (message,) = sent("pictures")
    assert code == 0
    assert output == f"{message.message_id}\n"
    assert "Sent resize(17, sharpen=True) to InspectedBroker" in errors
    assert (message.args, message.kwargs) == ((17,), {"sharpen": True})
    assert message.options["max_retries"] == 3


def test_options_may_stand_between_arguments(command, resize, sent):
    command("enqueue", "shop", "-k", "sharpen=1", "resize", "17", "--json", "-5")

    (message,) = sent("pictures")
    assert message.args == (17, -5)


def test_arguments_may_be_given_as_one_json_text(command, resize, sent):
    command("enqueue", "shop", "resize", "--json-args", '["p"]', "7")
    command("enqueue", "shop", "resize", "--json-args", '{"picture": "q"}')

    first, second = sent("pictures")
    assert first.args == ("p", 7)
    assert second.kwargs == {"picture": "q"}


def test_a_delayed_message_says_when_it_is_due(command, resize, sent):
    _, _, errors = command("enqueue", "shop", "resize", "17", "--delay", "5m")

    assert sent("pictures") == []
    assert ", due 2" in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resise", "1"], "No actor 'resise' is known (resize). Did you mean 'resize'?"),
        (["resize"], "missing a required argument: 'picture'"),
        (["resize", "1", "2", "3"], "too many positional arguments"),
        (["resize", "1", "-k", "widthh=3"], "Did you mean 'width'?"),
        (["resize", "1", "-k", "width"], "-k takes name=value, not 'width'."),
        (["resize", "1", "--option", "=1"], "--option takes name=value"),
        (["resize", "--json-args", "5"], "--json-args must be an array or an object"),
        (["resize", "--json-args", "{"], "--json-args is not JSON"),
        (["resize", "1", "--delay", "5"], "'5' is not a duration"),
        (["resize", "1", "--wait", "0"], "must be more than 0 seconds"),
        (["resize", "1", "--option", "on_success=5"], "on_success value must be an Actor"),
    ],
)
def test_what_cannot_be_sent_is_explained_and_nothing_is_sent(
    command, resize, sent, arguments, text
):
    code, output, errors = command("enqueue", "shop", *arguments)

    assert (code, output) == (2, "")
    assert text in errors
    assert sent("pictures") == []


def test_a_call_that_does_not_fit_is_told_the_signature(command, resize):
    _, _, errors = command("enqueue", "shop", "resize")

    assert "Its signature is resize(picture, width=100, *, sharpen=False)." in errors


def test_an_option_nobody_reads_is_sent_with_a_warning(command, resize, sent):
    code, _, errors = command("enqueue", "shop", "resize", "1", "--option", "max_retires=3")

    assert code == 0
    assert "No middleware of the broker knows the option 'max_retires'" in errors
    assert "Did you mean 'max_retries'?" in errors
    assert len(sent("pictures")) == 1


def test_waiting_without_a_result_backend_says_how_to_add_one(command, resize, sent):
    code, _, errors = command("enqueue", "shop", "resize", "1", "--wait")

    assert code == 2
    assert "broker.add_middleware(Results(backend=SQLiteBackend()))" in errors
    assert sent("pictures") == []


def test_the_result_is_printed_as_json(command, resize, with_results, monkeypatch):
    monkeypatch.setattr(type(with_results), "_get", lambda *_: wrap_result([1, "two"]))

    code, output, errors = command("enqueue", "shop", "resize", "1", "--wait", "5")

    assert code == 0
    assert json.loads(output) == [1, "two"]
    assert "Sent resize(1)" in errors


def test_a_result_that_is_waited_for_is_stored_whatever_the_actor_says(
    command, resize, with_results, sent
):
    code, output, errors = command("enqueue", "shop", "resize", "1", "--wait", "0.01")

    (message,) = sent("pictures")
    assert message.options["store_results"] is True
    assert (code, output) == (1, "")
    assert "there is no result after 0.01 s" in errors
    assert f"dramatiq inspect {message.message_id}" in errors


def test_a_failure_is_the_actors(command, resize, with_results, monkeypatch):
    stored = wrap_exception(ValueError("no such picture"))
    monkeypatch.setattr(type(with_results), "_get", lambda *_: stored)

    code, output, errors = command("enqueue", "shop", "resize", "1", "--wait")

    assert (code, output) == (1, "")
    assert "the actor failed: " in errors
    assert "no such picture" in errors
