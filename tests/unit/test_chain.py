from __future__ import annotations

import logging

import pytest

import dramatiq
from dramatiq import Middleware
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import (
    AgeLimit,
    Callbacks,
    MiddlewareError,
    Pipelines,
    Retries,
    ShutdownNotifications,
    SkipMessage,
    TimeLimit,
    default_middleware,
)
from dramatiq.middleware.chain import Chain, MiddlewareList


class Recorder(Middleware):
    """Writes down which hooks ran."""

    def __init__(self, name, calls):
        self.name = name
        self.calls = calls

    def before_ack(self, broker, message):
        self.calls.append(f"before {self.name}")

    def after_ack(self, broker, message):
        self.calls.append(f"after {self.name}")


class Idle(Middleware):
    """Overrides nothing."""


@pytest.fixture
def calls():
    return []


@pytest.fixture
def broker(calls):
    return StubBroker(middleware=[Recorder("a", calls), Recorder("b", calls)])


# -- order


def test_before_hooks_run_in_order_and_after_hooks_in_reverse(broker, calls):
    broker.emit_before("ack", None)
    broker.emit_after("ack", None)

    assert calls == ["before a", "before b", "after b", "after a"]


def test_hooks_get_the_broker_and_the_arguments(broker):
    seen = []

    class Seeing(Middleware):
        def before_enqueue(self, *args, **kwargs):
            seen.append((args, kwargs))

    broker.add_middleware(Seeing())

    broker.emit_before("enqueue", "message", delay=5)

    assert seen == [((broker, "message"), {"delay": 5})]


# -- errors


class Raising(Middleware):
    def __init__(self, error):
        self.error = error

    def before_ack(self, broker, message):
        raise self.error

    def after_ack(self, broker, message):
        raise self.error


@pytest.mark.parametrize("error", [MiddlewareError("stop"), SkipMessage()])
def test_an_error_of_the_middleware_kind_stops_before_hooks(calls, error):
    broker = StubBroker(middleware=[Recorder("a", calls), Raising(error), Recorder("b", calls)])

    with pytest.raises(type(error)) as caught:
        broker.emit_before("ack", None)

    assert caught.value is error
    assert calls == ["before a"]


@pytest.mark.parametrize("error", [MiddlewareError("stop"), SkipMessage()])
def test_an_error_of_the_middleware_kind_is_swallowed_in_after_hooks(calls, error, caplog):
    broker = StubBroker(middleware=[Recorder("a", calls), Raising(error), Recorder("b", calls)])

    caplog.clear()

    broker.emit_after("ack", None)

    assert calls == ["after b", "after a"]
    assert caplog.records == []


@pytest.mark.parametrize("emit", ["emit_before", "emit_after"])
def test_other_errors_are_logged_and_the_next_middleware_goes_on(calls, caplog, emit):
    broker = StubBroker(
        middleware=[
            Recorder("a", calls),
            Raising(ValueError("wrong")),
            Recorder("b", calls),
        ]
    )

    caplog.clear()

    getattr(broker, emit)("ack", None)

    assert len(calls) == 2
    [record] = caplog.records
    assert (record.name, record.levelno) == ("dramatiq.broker.StubBroker", logging.CRITICAL)
    assert f"{emit.removeprefix('emit_')}_ack" in record.getMessage()
    assert "Raising" in record.getMessage()
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("emit", ["emit_before", "emit_after"])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), dramatiq.middleware.Shutdown()]
)
def test_interrupts_go_through(emit, error):
    broker = StubBroker(middleware=[Raising(error)])

    with pytest.raises(type(error)):
        getattr(broker, emit)("ack", None)


# -- who is called


def test_a_hook_that_nobody_overrides_is_nobodys():
    chain = Chain(MiddlewareList([Idle(), Idle()]))

    assert chain.before("before_enqueue") == ()
    assert chain.after("after_enqueue") == ()


def test_a_hook_may_be_set_on_the_instance(calls):
    middleware = Idle()
    middleware.before_ack = lambda broker, message: calls.append(message)

    StubBroker(middleware=[middleware]).emit_before("ack", "message")

    assert calls == ["message"]


def test_a_method_that_is_replaced_later_is_the_one_called(broker, calls, monkeypatch):
    broker.emit_before("ack", None)
    calls.clear()

    monkeypatch.setattr(Recorder, "before_ack", lambda self, *_: calls.append("replaced"))
    broker.emit_before("ack", None)

    assert calls == ["replaced", "replaced"]


def test_objects_that_are_no_middleware_are_called_too(calls):
    class Duck:
        actor_options = frozenset()

        def before_ack(self, broker, message):
            calls.append("duck")

    broker = StubBroker(middleware=[Duck()])

    broker.emit_before("ack", None)

    assert calls == ["duck"]


def test_signals_of_others_may_be_emitted(broker, caplog, calls):
    class Custom(Middleware):
        def before_launch(self, broker, what):
            calls.append(what)

        def after_launch(self, broker, what):
            calls.append(what)

    broker.add_middleware(Custom())

    broker.emit_before("launch", "now")
    broker.emit_after("launch", "then")

    assert calls == ["now", "then"]
    assert [logging.CRITICAL] * 4 == [record.levelno for record in caplog.records]


def test_adding_to_the_list_in_a_hook_is_harmless(calls):
    class Adding(Middleware):
        def before_ack(self, broker, message):
            broker.middleware.append(Recorder("late", calls))

    broker = StubBroker(middleware=[Adding()])

    broker.emit_before("ack", None)
    assert calls == []

    broker.emit_before("ack", None)
    assert calls == ["before late"]


# -- changes of the list


CHANGES = {
    "append": lambda each, new: each.append(new),
    "insert": lambda each, new: each.insert(0, new),
    "extend": lambda each, new: each.extend([new]),
    "add in place": lambda each, new: each.__iadd__([new]),
    "set": lambda each, new: each.__setitem__(0, new),
    "set a slice": lambda each, new: each.__setitem__(slice(0, 0), [new]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_others_put_into_the_list_is_called(broker, calls, change):
    broker.emit_before("ack", None)
    calls.clear()

    change(broker.middleware, Recorder("new", calls))
    broker.emit_before("ack", None)

    assert "before new" in calls


REMOVALS = {
    "clear": lambda each: each.clear(),
    "pop": lambda each: (each.pop(), each.pop(0)),
    "remove": lambda each: (each.remove(each[0]), each.remove(each[0])),
    "delete": lambda each: each.__delitem__(slice(None)),
}


@pytest.mark.parametrize("change", REMOVALS.values(), ids=REMOVALS.keys())
def test_what_others_take_out_of_the_list_is_not_called(broker, calls, change):
    broker.emit_before("ack", None)
    calls.clear()

    change(broker.middleware)
    broker.emit_before("ack", None)

    assert calls == []


def test_reordering_the_list_reorders_the_calls(broker, calls):
    broker.emit_before("ack", None)
    broker.middleware.reverse()
    broker.emit_before("ack", None)
    broker.middleware.sort(key=lambda each: each.name)
    broker.emit_before("ack", None)

    assert [each[-1] for each in calls] == ["a", "b", "b", "a", "a", "b"]


def test_the_list_may_be_replaced(broker, calls):
    broker.emit_before("ack", None)
    calls.clear()

    broker.middleware = [Recorder("new", calls)]
    broker.emit_before("ack", None)
    broker.middleware.append(Recorder("newer", calls))
    broker.emit_before("ack", None)

    assert calls == ["before new", "before new", "before newer"]


def test_the_list_is_a_list(broker):
    first, second = broker.middleware

    assert isinstance(broker.middleware, list)
    assert broker.middleware == [first, second]
    assert first in broker.middleware
    assert broker.middleware.index(second) == 1


# -- adding middleware


def test_a_broker_has_one_of_each_default_middleware():
    expected = [
        AgeLimit,
        TimeLimit,
        ShutdownNotifications,
        Callbacks,
        Pipelines,
        Retries,
    ]

    assert default_middleware == expected
    assert [type(each) for each in StubBroker().middleware] == expected


def test_a_given_list_is_used_as_it_is():
    middleware = Idle()

    assert StubBroker(middleware=[]).middleware == []
    assert StubBroker([middleware]).middleware == [middleware]


def test_middleware_is_added_at_the_end():
    broker, middleware = StubBroker(), Idle()

    broker.add_middleware(middleware)

    assert broker.middleware[-1] is middleware


@pytest.mark.parametrize(("side", "index"), [("before", 1), ("after", 2)])
def test_middleware_is_added_next_to_a_class(side, index):
    broker, middleware = StubBroker(), Idle()

    broker.add_middleware(middleware, **{side: TimeLimit})

    assert broker.middleware.index(middleware) == index


def test_the_first_instance_counts_subclasses_included(calls):
    class Sub(Idle):
        pass

    broker = StubBroker(middleware=[Sub(), Recorder("a", calls), Idle()])
    middleware = Recorder("b", calls)

    broker.add_middleware(middleware, after=Idle)

    assert broker.middleware.index(middleware) == 1


def test_there_can_be_only_one_neighbour():
    with pytest.raises(AssertionError):
        StubBroker().add_middleware(Idle(), before=AgeLimit, after=AgeLimit)


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_neighbour_must_be_there(side):
    broker = StubBroker(middleware=[])

    with pytest.raises(ValueError, match="AgeLimit"):
        broker.add_middleware(Idle(), **{side: AgeLimit})

    assert broker.middleware == []


def test_adding_the_same_type_twice_warns_and_adds(caplog):
    class Sub(Idle):
        pass

    broker = StubBroker(middleware=[Idle(), Sub()])
    caplog.clear()

    broker.add_middleware(Idle())

    assert len(broker.middleware) == 3
    assert [logging.WARNING] * 2 == [record.levelno for record in caplog.records]
    assert "You're adding a middleware of the same type twice" in caplog.text


def test_adding_a_subclass_of_what_is_there_does_not_warn(caplog):
    class Sub(Idle):
        pass

    StubBroker(middleware=[Idle(), Sub()])

    assert caplog.records == []


def test_options_only_ever_grow():
    class Custom(Middleware):
        @property
        def actor_options(self):
            return {"custom"}

    broker = StubBroker(middleware=[AgeLimit(), Custom()])
    assert broker.actor_options == {"max_age", "custom"}

    broker.middleware.clear()
    assert broker.actor_options == {"max_age", "custom"}


def test_late_middleware_alone_hears_of_what_was_declared(calls):
    class Hearing(Middleware):
        def __init__(self, name):
            self.name = name

        def after_declare_actor(self, broker, actor):
            calls.append((self.name, "actor", actor.actor_name))

        def after_declare_queue(self, broker, queue_name):
            calls.append((self.name, "queue", queue_name))

        def after_declare_delay_queue(self, broker, queue_name):
            calls.append((self.name, "delay queue", queue_name))

    class Late(Hearing):
        pass

    broker = StubBroker(middleware=[Hearing("early")])
    dramatiq.actor(max, broker=broker, queue_name="q")
    assert calls == [
        ("early", "queue", "q"),
        ("early", "delay queue", "q.DQ"),
        ("early", "actor", "max"),
    ]
    calls.clear()

    broker.add_middleware(Late("late"))

    assert calls[0] == ("late", "actor", "max")
    assert set(calls[1:]) == {
        ("late", "queue", "q"),
        ("late", "queue", "q.DQ"),
        ("late", "delay queue", "q.DQ"),
    }


def test_errors_of_late_middleware_reach_whoever_adds_it():
    class Failing(Middleware):
        def after_declare_actor(self, broker, actor):
            raise ValueError("wrong")

    broker = StubBroker()
    dramatiq.actor(max, broker=broker)

    with pytest.raises(ValueError, match="wrong"):
        broker.add_middleware(Failing())


# -- on which thread async actors run


class Blocking(Middleware):
    def before_process_message(self, broker, message):
        pass


def test_foreign_middleware_that_overrides_process_hooks_is_not_loop_safe():
    class Safe(Blocking):
        is_loop_safe = True

    blocking = Blocking()

    chain = Chain(MiddlewareList([Idle(), Safe(), blocking, Retries()]))

    assert chain.not_loop_safe() == [blocking]


def test_the_default_middleware_is_loop_safe():
    assert StubBroker().chain.not_loop_safe() == []
