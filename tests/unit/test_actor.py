from __future__ import annotations

import copy
import logging
import pickle
from datetime import timedelta

import pytest

import dramatiq
from dramatiq import Actor, Message
from dramatiq.actor import _queue_name_re
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis


def queued(broker, queue_name="default"):
    queue = broker.queues[queue_name]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


def plain_add(left, right):
    """Add."""
    return left + right


@pytest.fixture
def add(stub_broker):
    return dramatiq.actor(plain_add, actor_name="add")


# -- declaring


def test_the_decorator_can_be_used_bare(stub_broker):
    @dramatiq.actor
    def work():
        pass

    assert isinstance(work, Actor)
    assert ("work", "default", 0, {}) == (
        work.actor_name,
        work.queue_name,
        work.priority,
        work.options,
    )
    assert work.broker is stub_broker
    assert stub_broker.get_actor("work") is work


def test_the_decorator_can_be_called_without_arguments(stub_broker):
    @dramatiq.actor()
    def work():
        pass

    assert stub_broker.actors == {"work": work}


def test_the_decorator_takes_options(stub_broker):
    @dramatiq.actor(actor_name="name", queue_name="low", priority=5, max_retries=None, max_age=1)
    def work():
        pass

    assert ("name", "low", 5) == (work.actor_name, work.queue_name, work.priority)
    assert work.options == {"max_retries": None, "max_age": 1}


def test_the_decorator_can_be_called_on_a_function(stub_broker):
    work = dramatiq.actor(plain_add, queue_name="low")

    assert ("plain_add", "low", plain_add) == (work.actor_name, work.queue_name, work.fn)


def test_everything_but_the_function_is_passed_by_keyword(stub_broker):
    with pytest.raises(TypeError):
        dramatiq.actor(plain_add, Actor)


def test_an_actor_is_declared_on_the_given_broker(stub_broker):
    other = StubBroker()

    work = dramatiq.actor(plain_add, broker=other)

    assert work.broker is other
    assert set(other.actors) == {"plain_add"}
    assert stub_broker.actors == {}


def test_declaring_an_actor_declares_its_queue(stub_broker):
    dramatiq.actor(plain_add, queue_name="low")

    assert stub_broker.get_declared_queues() == {"low", "low.DQ"}
    assert stub_broker.get_declared_delay_queues() == {"low.DQ"}


def test_names_are_unique_in_a_broker(stub_broker):
    dramatiq.actor(plain_add, actor_name="foo")

    with pytest.raises(ValueError, match="registered") as caught:
        dramatiq.actor(plain_add, actor_name="foo")

    assert str(caught.value) == "An actor named 'foo' is already registered."


def test_a_decorator_may_be_used_for_several_functions(stub_broker):
    low = dramatiq.actor(queue_name="low")

    first, second = low(plain_add), low(max)

    assert (first.actor_name, second.actor_name) == ("plain_add", "max")


@pytest.mark.parametrize(
    "queue_name", ["default", "_a", "A", "a.b", "a-b", "a_b", "a1", "z" * 300, "q.DQ"]
)
def test_queue_names_start_with_a_letter_or_underscore(stub_broker, queue_name):
    assert dramatiq.actor(plain_add, queue_name=queue_name).queue_name == queue_name
    assert _queue_name_re.fullmatch(queue_name)


@pytest.mark.parametrize(
    "queue_name", ["", "1", "-a", ".a", "a b", "a\n", "a#", "a:b", "é", "a/b", "aé", "a\u0661"]
)
def test_other_queue_names_are_refused(stub_broker, queue_name):
    with pytest.raises(ValueError, match="queue name"):
        dramatiq.actor(plain_add, queue_name=queue_name)

    assert not _queue_name_re.fullmatch(queue_name)
    assert stub_broker.actors == {}


def test_unknown_options_are_listed_with_a_hint(stub_broker):
    with pytest.raises(ValueError, match="middleware") as caught:
        dramatiq.actor(plain_add, invalid=1, max_retrys=2, max_retries=3)

    assert "invalid" in str(caught.value)
    assert "max_retrys (did you mean 'max_retries'?)" in str(caught.value)
    assert stub_broker.actors == {}


def test_the_queue_name_is_checked_before_the_options(stub_broker):
    with pytest.raises(ValueError, match="queue name"):
        dramatiq.actor(plain_add, queue_name="1", invalid=1)


def test_the_options_are_checked_before_the_name(stub_broker):
    dramatiq.actor(plain_add)

    with pytest.raises(ValueError, match="invalid"):
        dramatiq.actor(plain_add, invalid=1)


def test_the_values_of_options_are_not_checked(stub_broker):
    value = object()

    work = dramatiq.actor(plain_add, max_retries=value, on_success=max)

    assert work.options == {"max_retries": value, "on_success": max}


def test_options_of_late_middleware_become_known(stub_broker):
    class Custom(dramatiq.Middleware):
        actor_options = {"custom"}  # noqa: RUF012 (as plugins write it)

    stub_broker.add_middleware(Custom())

    assert dramatiq.actor(plain_add, custom=1).options == {"custom": 1}


def test_any_callable_can_make_the_actor(stub_broker):
    calls = []

    def make(*args, **kwargs):
        calls.append((args, kwargs))
        return "whatever"

    made = dramatiq.actor(plain_add, actor_class=make, queue_name="low", max_retries=1)

    assert made == "whatever"
    assert calls == [
        (
            (plain_add,),
            {
                "actor_name": "plain_add",
                "queue_name": "low",
                "priority": 0,
                "broker": stub_broker,
                "options": {"max_retries": 1},
            },
        )
    ]


def test_an_actor_may_be_made_with_anything_that_declares_actors():
    class Registry:
        def __init__(self):
            self.actors = {}

        def declare_actor(self, actor):
            self.actors[actor.actor_name] = actor

    registry = Registry()

    work = Actor(
        plain_add,
        broker=registry,
        actor_name="work",
        queue_name="any name",
        priority=1,
        options={},
    )

    assert registry.actors == {"work": work}


def test_an_actor_is_complete_when_it_is_declared():
    seen = []

    class Registry:
        actors = {}  # noqa: RUF012

        def declare_actor(self, actor):
            seen.append(dict(vars(actor)))

    Actor(plain_add, broker=Registry(), actor_name="a", queue_name="q", priority=1, options={})

    names = {"logger", "fn", "broker", "actor_name", "queue_name", "priority", "options"}
    assert names <= set(seen[0])


def test_an_actor_can_be_declared_again_on_another_broker(add):
    other = StubBroker()

    other.declare_actor(add)

    assert other.get_actor("add") is add


def test_async_generators_are_refused(stub_broker):
    async def work():
        yield 1

    with pytest.raises(TypeError, match="async generator"):
        dramatiq.actor(work)


def test_a_class_that_performs_as_an_async_generator_is_refused(stub_broker):
    with pytest.raises(TypeError, match="Actor 'Work' is an async generator"):

        class Work(dramatiq.GenericActor):
            async def perform(self):
                yield 1


def test_generators_are_warned_of_where_they_are_written(stub_broker):
    def work():
        yield 1

    with pytest.warns(RuntimeWarning, match="'work' is a generator") as warned:
        dramatiq.actor(work)

    (warning,) = warned
    assert (warning.filename, warning.lineno) == (__file__, work.__code__.co_firstlineno)


# -- messages


def test_a_message_is_for_the_actors_queue(add):
    message = add.message(1, right=2)

    assert ("default", "add", (1,), {"right": 2}, {}) == (
        message.queue_name,
        message.actor_name,
        message.args,
        message.kwargs,
        message.options,
    )


def test_building_a_message_sends_nothing(add, stub_broker):
    add.message(1, 2)
    add.message_with_options(args=(1, 2))

    assert queued(stub_broker) == []


def test_the_queue_of_messages_follows_the_attribute(add):
    add.queue_name = "other"

    assert add.message().queue_name == "other"


def test_a_message_carries_any_options(add):
    message = add.message_with_options(
        args=[1], kwargs={"right": 2}, delay=5, eta="x", options={"nested": 1}, max_retries=None
    )

    assert message.args == (1,)
    assert message.kwargs == {"right": 2}
    assert message.options == {
        "delay": 5,
        "eta": "x",
        "options": {"nested": 1},
        "max_retries": None,
    }


def test_arguments_may_be_any_iterable(add):
    assert add.message_with_options(args=(n for n in (1, 2))).args == (1, 2)


@pytest.mark.parametrize("option", ["on_success", "on_failure"])
def test_callbacks_may_be_actors_or_names_or_none(add, option):
    def options(value):
        return add.message_with_options(**{option: value}).options

    assert options(add) == {option: "add"}
    assert options("name") == {option: "name"}
    assert options(None) == {option: None}


@pytest.mark.parametrize("option", ["on_success", "on_failure"])
@pytest.mark.parametrize("value", [1, plain_add, object()])
def test_callbacks_that_are_something_else_are_refused(add, option, value):
    with pytest.raises(TypeError, match=rf"^{option} .*must be an Actor"):
        add.message_with_options(**{option: value})
    with pytest.raises(TypeError, match=rf"^{option} .*must be an Actor"):
        add.send_with_options(**{option: value})


def test_class_based_actors_are_no_callbacks_of_messages(add):
    class Callback(dramatiq.GenericActor):
        def perform(self, data, result):
            pass

    with pytest.raises(TypeError, match="must be an Actor"):
        add.message_with_options(on_success=Callback)


# -- sending


def test_sending_enqueues_and_returns_the_message(add, stub_broker):
    message = add.send(1, right=2)

    assert queued(stub_broker) == [message]
    assert (message.args, message.kwargs) == ((1,), {"right": 2})


def test_sending_returns_what_the_broker_returns(add, monkeypatch):
    monkeypatch.setattr(add.broker, "enqueue", lambda message, *, delay=None: (message, delay))

    message, delay = add.send_with_options(args=(1,), delay=3)

    assert (message.args, delay) == ((1,), 3)


@pytest.mark.parametrize(
    ("delay", "milliseconds"),
    [
        (None, None),
        (0, 0),
        (1500, 1500),
        (timedelta(), 0),
        (timedelta(seconds=1), 1000),
        (timedelta(milliseconds=1001), 1001),
        (timedelta(microseconds=1999), 1),
        (timedelta(days=40, microseconds=1), 40 * 86_400_000),
    ],
)
def test_a_delay_is_in_milliseconds_or_a_timedelta(add, monkeypatch, delay, milliseconds):
    delays = []
    monkeypatch.setattr(add.broker, "enqueue", lambda message, *, delay=None: delays.append(delay))

    add.send_with_options(delay=delay)

    assert delays == [milliseconds]


def test_every_timedelta_of_whole_milliseconds_is_exact(add, monkeypatch):
    delays = []
    monkeypatch.setattr(add.broker, "enqueue", lambda message, *, delay=None: delays.append(delay))

    for milliseconds in range(3000):
        add.send_with_options(delay=timedelta(milliseconds=milliseconds))

    assert delays == list(range(3000))


@pytest.mark.parametrize("delay", [0, 60_000])
def test_a_delayed_message_waits_in_the_delay_queue(add, stub_broker, delay):
    before = current_millis()

    message = add.send_with_options(args=(1, 2), delay=delay)

    assert queued(stub_broker) == []
    assert queued(stub_broker, "default.DQ") == [message]
    assert message.queue_name == "default.DQ"
    assert before + delay <= message.options["eta"] <= current_millis() + delay


def test_tracing_tools_may_wrap_the_methods_in_the_middle(add, stub_broker, monkeypatch):
    calls = []

    def wrap(name):
        wrapped = getattr(Actor, name)

        def wrapper(self, **kwargs):
            calls.append(name)
            return wrapped(self, **kwargs)

        monkeypatch.setattr(Actor, name, wrapper)

    wrap("message_with_options")
    wrap("send_with_options")
    enqueue = stub_broker.enqueue
    monkeypatch.setattr(
        stub_broker,
        "enqueue",
        lambda *args, **kwargs: calls.append("enqueue") or enqueue(*args, **kwargs),
    )

    add.send(1, 2)
    assert calls == ["send_with_options", "message_with_options", "enqueue"]

    calls.clear()
    add.message(1, 2)
    assert calls == ["message_with_options"]


def test_a_subclass_may_extend_the_methods_in_the_middle(stub_broker):
    class Traced(Actor):
        def message_with_options(self, **options):
            return super().message_with_options(**options, traced=True)

    work = dramatiq.actor(plain_add, actor_class=Traced)

    assert work.message(1).options == {"traced": True}
    assert work.send(1).options == {"traced": True}
    assert [{"traced": True}] == [message.options for message in queued(stub_broker)]


def test_what_cannot_be_encoded_is_refused_when_it_is_sent(add, stub_broker):
    with pytest.raises(TypeError, match="left"):
        add.send(object(), 1)

    assert queued(stub_broker) == []


def test_many_calls_are_sent_at_once(add, stub_broker):
    messages = add.send_many([(1, 2), {"left": 3, "right": 4}], max_retries=1)

    assert queued(stub_broker) == messages
    assert [((1, 2), {}), ((), {"left": 3, "right": 4})] == [
        (message.args, message.kwargs) for message in messages
    ]
    assert all(message.options == {"max_retries": 1} for message in messages)


def test_a_call_that_is_no_call_sends_nothing(add, stub_broker):
    with pytest.raises(TypeError, match=r"\('text',\)"):
        add.send_many([(1, 2), "text"])

    assert queued(stub_broker) == []


# -- calling


def test_an_actor_can_be_called_like_its_function(add):
    assert add(1, right=2) == 3


def test_what_the_function_raises_reaches_the_caller(stub_broker):
    @dramatiq.actor
    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        fail()


def test_a_call_logs_its_arguments_and_duration(add, caplog):
    caplog.set_level(logging.DEBUG)

    add(1, right=2)

    records = [record for record in caplog.records if record.name == add.logger.name]
    assert [logging.DEBUG] * 2 == [record.levelno for record in records]
    assert "(1,)" in records[0].getMessage()
    assert "{'right': 2}" in records[0].getMessage()
    assert "%.02fms" in records[1].msg


def test_a_call_that_raises_logs_its_duration_too(stub_broker, caplog):
    @dramatiq.actor
    def fail():
        raise KeyError("x")

    caplog.set_level(logging.DEBUG)

    with pytest.raises(KeyError):
        fail()

    assert "ms" in caplog.records[-1].getMessage()


def test_the_function_can_be_replaced(add):
    add.fn = max

    assert add(1, 2) == 2


# -- in text, and as an object


def test_the_logger_is_named_after_module_and_actor(add):
    assert add.logger.name == f"{plain_add.__module__}.add"


def test_a_function_without_module_has_a_logger_too(stub_broker):
    class Callable:
        __module__ = None
        __name__ = "work"

        def __call__(self):
            pass

    assert dramatiq.actor(Callable()).logger.name == "_.work"


def test_an_actor_in_text(add):
    assert str(add) == "Actor(add)"
    assert repr(add) == f"Actor({plain_add!r}, queue_name='default', actor_name='add')"


def test_actors_can_be_subscripted():
    assert Actor[..., int]
    assert dramatiq.Actor[[int], str]


def test_an_actor_pickles_by_name(add):
    assert pickle.loads(pickle.dumps(add)) is add


def test_an_actor_is_not_multiplied_by_copying(add):
    assert copy.copy(add) is add
    assert copy.deepcopy({"actor": add})["actor"] is add


def test_an_actor_of_another_broker_is_not_multiplied_by_copying(stub_broker):
    work = dramatiq.actor(plain_add, broker=StubBroker())

    assert copy.copy(work) is work
    assert copy.deepcopy(work) is work


# -- coroutines


async def fetch(address):
    """Fetch."""
    return address


def test_a_coroutine_function_is_wrapped_in_a_plain_one(stub_broker):
    actor = dramatiq.actor(fetch)

    assert ("fetch", "Fetch.", fetch) == (
        actor.fn.__name__,
        actor.fn.__doc__,
        actor.fn.__wrapped__,
    )
    assert actor.coroutine_function is fetch


def test_a_coroutine_function_needs_an_event_loop_thread(stub_broker):
    actor = dramatiq.actor(fetch)

    with pytest.raises(RuntimeError, match="event loop thread"):
        actor("here")


def test_a_plain_function_is_kept_as_it_is(add):
    assert add.fn is plain_add
    assert add.coroutine_function is None


def test_a_replaced_function_is_the_one_that_runs(stub_broker):
    actor = dramatiq.actor(fetch)

    actor.fn = plain_add

    assert actor.coroutine_function is None
    assert actor(1, 2) == 3


def test_a_replaced_call_is_the_one_that_runs(stub_broker, monkeypatch):
    class Traced(Actor):
        def __call__(self, *args, **kwargs):
            return "traced"

    assert dramatiq.actor(fetch, actor_class=Traced).coroutine_function is None

    actor = dramatiq.actor(fetch, actor_name="other")
    monkeypatch.setattr(Actor, "__call__", lambda self, *args: "wrapped")

    assert actor.coroutine_function is None


# -- partial calls


def test_a_partial_call_leaves_its_first_argument_to_the_pipe(stub_broker):
    @dramatiq.actor
    def divide(dividend, divisor, places=0):
        return round(dividend / divisor, places)

    message = divide.partial(4, places=2)

    assert ((), {"divisor": 4, "places": 2}) == (message.args, message.kwargs)


def test_a_partial_call_refuses_what_it_cannot_name(stub_broker):
    @dramatiq.actor
    def add(*numbers):
        return sum(numbers)

    with pytest.raises(TypeError, match=r"add\.partial.*by name \(none\)"):
        add.partial(1)


def test_a_partial_call_refuses_an_argument_that_is_given_twice(stub_broker):
    @dramatiq.actor
    def divide(dividend, divisor):
        return dividend / divisor

    with pytest.raises(TypeError, match="'divisor' is given twice"):
        divide.partial(4, divisor=5)
