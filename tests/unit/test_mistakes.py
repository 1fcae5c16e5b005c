from __future__ import annotations

import functools
import inspect
import logging

import pytest

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import QueueNotFound
from dramatiq.mistakes import Expectations
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import StubBackend


@pytest.fixture
def broker():
    broker = StubBroker()
    dramatiq.set_broker(broker)
    yield broker
    broker.close()


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def takes_two(a, b): ...
def takes_default(a, b=1): ...
def takes_names(a, *, name): ...
def takes_more(a, *rest): ...
def takes_any(a, **rest): ...
def takes_by_place(a, b, /, c): ...


CALLS = [
    (takes_two, (1, 2), {}, None),
    (takes_two, (1,), {"b": 2}, None),
    (takes_two, (), {"a": 1, "b": 2}, None),
    (takes_two, (1,), {}, "argument 'b' missing"),
    (takes_two, (), {}, "arguments 'a', 'b' missing"),
    (takes_two, (1, 2, 3), {}, "it takes 2 positional arguments, not 3"),
    (takes_two, (1, 2), {"b": 3}, "argument 'b' is given twice"),
    (takes_two, (1,), {"bb": 3}, "it has no argument 'bb'. Did you mean 'b'?"),
    (takes_two, (1, 2), {"other": 3}, "it has no argument 'other'"),
    (takes_default, (1,), {}, None),
    (takes_names, (1,), {"name": 2}, None),
    (takes_names, (1,), {}, "argument 'name' missing"),
    (takes_names, (1, 2), {}, "it takes 1 positional arguments, not 2"),
    (takes_more, (1, 2, 3), {}, None),
    (takes_more, (), {}, "argument 'a' missing"),
    (takes_any, (1,), {"x": 2}, None),
    (takes_by_place, (1, 2), {"c": 3}, None),
    (takes_by_place, (1,), {"b": 2, "c": 3}, "it has no argument 'b'"),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "expected"), CALLS)
def test_a_call_that_fails_is_recognised(fn, args, kwargs, expected):
    assert Expectations(fn).what_is_wrong(args, kwargs) == expected


@pytest.mark.parametrize(("fn", "args", "kwargs", "expected"), CALLS)
def test_python_is_of_the_same_opinion(fn, args, kwargs, expected):
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError:
        assert expected is not None
    else:
        assert expected is None


def test_a_wrapper_is_taken_at_its_own_word():
    @functools.wraps(takes_two)
    def wrapper(*args):
        return takes_two("added", *args)

    assert Expectations(wrapper).what_is_wrong((1,), {}) is None


def test_wrong_arguments_are_told_of_once_and_sent_all_the_same(broker, warnings):
    @dramatiq.actor
    def add(a, b): ...

    for _ in range(3):
        add.send(1)
    add.send(1, 2)
    add.send_many([(1, 2, 3)])

    assert len(warnings()) == 2
    assert "add(): argument 'b' missing. The message is sent all the same" in warnings()[0]
    assert "it takes 2 positional arguments, not 3" in warnings()[1]
    assert broker.queues["default"].qsize() == 5


@pytest.mark.usefixtures("broker")
def test_async_actors_are_looked_at_too(warnings):
    @dramatiq.actor
    async def add(a, b): ...

    add.send(1)

    assert "argument 'b' missing" in warnings()[0]


@pytest.mark.usefixtures("broker")
def test_a_message_that_is_to_get_its_argument_from_a_pipeline_is_fine(warnings):
    @dramatiq.actor
    def add(a, b): ...

    dramatiq.pipeline([add.message(1, 2), add.message(3)]).run()

    assert warnings() == []


@pytest.mark.usefixtures("broker")
def test_a_misspelt_option_of_a_message_is_told_of_once(warnings):
    @dramatiq.actor
    def add(): ...

    for _ in range(2):
        add.send_with_options(dely=1000)
    add.send_with_options(max_retries=1, somebodys_own=True)

    (text,) = warnings()
    assert "no middleware of the broker knows the message option 'dely'" in text
    assert "Did you mean 'delay'?" in text


@pytest.mark.usefixtures("broker")
def test_a_name_that_is_taken_tells_both_places():
    @dramatiq.actor
    def add(): ...

    with pytest.raises(ValueError, match="An actor named 'add' is already registered") as caught:
        dramatiq.actor(takes_two, actor_name="add")

    (note,) = caught.value.__notes__
    assert note.count("test_mistakes.py:") == 2


def test_an_unknown_queue_of_the_stub_broker_is_told_with_the_known_ones(broker):
    broker.declare_queue("default")

    for ask in (broker.flush, broker.join):
        with pytest.raises(QueueNotFound) as caught:
            ask("defualt")

        assert str(caught.value) == "defualt"
        assert "(known: default). Did you mean 'default'?" in caught.value.__notes__[0]


def test_whoever_asks_for_a_result_that_is_not_stored_is_told(broker, warnings):
    broker.add_middleware(Results(backend=StubBackend()))

    @dramatiq.actor
    def add(): ...

    @dramatiq.actor(store_results=True)
    def kept(): ...

    for actor in (add, add, kept):
        with pytest.raises(ResultMissing):
            actor.send().get_result()

    (text,) = warnings()
    assert "Actor 'add' does not store results" in text
    assert "store_results=True" in text
