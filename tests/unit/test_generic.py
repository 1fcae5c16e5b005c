from __future__ import annotations

import pickle

import pytest

import dramatiq
from dramatiq import Actor, GenericActor, Message
from dramatiq.generic import generic_actor


@pytest.fixture
def add(stub_broker):
    class Add(GenericActor):
        class Meta:
            queue_name = "math"
            max_retries = 3

        constant = 1

        def perform(self, left, right):
            return left + right + self.zero()

        def zero(self):
            return 0

    return Add


def test_the_name_of_the_class_is_bound_to_its_instance(add):
    assert type(add).__name__ == "Add"
    assert isinstance(add, GenericActor)
    assert isinstance(type(add), generic_actor)


def test_the_instance_has_an_actor(add, stub_broker):
    assert isinstance(add.__actor__, Actor)
    assert stub_broker.actors == {"Add": add.__actor__}
    assert add.__actor__.fn is add


def test_calling_the_instance_performs(add):
    assert add(1, 2) == 3
    assert add(left=1, right=2) == 3
    assert add.__actor__(1, 2) == 3


def test_what_the_instance_lacks_comes_from_its_actor(add, stub_broker):
    assert ("Add", "math", 0, {"max_retries": 3}) == (
        add.actor_name,
        add.queue_name,
        add.priority,
        add.options,
    )
    assert add.broker is stub_broker
    assert add.logger.name == f"{__name__}.Add"
    assert add.message(1, 2).args == (1, 2)
    assert add.message_with_options(args=(1,), extra=1).options == {"extra": 1}


def test_sending_goes_through_the_actor(add, stub_broker):
    first = add.send(1, 2)
    second = add.send_with_options(args=(1, 2), delay=5)

    assert Message.decode(stub_broker.queues["math"].get(timeout=1)) == first
    assert Message.decode(stub_broker.queues["math.DQ"].get(timeout=1)) == second


def test_what_the_class_has_is_its_own(add):
    assert add.constant == 1
    assert add.zero() == 0


def test_the_name_is_that_of_the_class_unless_meta_says_otherwise(stub_broker):
    class Named(GenericActor):
        class Meta:
            actor_name = "other"

        def perform(self):
            pass

    assert Named.__name__ == "Named"
    assert Named.actor_name == "other"


def test_without_meta_there_are_no_options(stub_broker):
    class Plain(GenericActor):
        def perform(self):
            return 1

    assert (Plain.queue_name, Plain.options) == ("default", {})


def test_private_attributes_of_meta_are_no_options(stub_broker):
    class Plain(GenericActor):
        class Meta:
            _private = 1
            __also_private = 2
            max_age = 3

        def perform(self):
            return 1

    assert Plain.options == {"max_age": 3}


def test_what_meta_inherits_is_ignored(stub_broker):
    class Base:
        max_retries = 1

    class Work(GenericActor):
        class Meta(Base):
            max_age = 2

        def perform(self):
            pass

    assert Work.options == {"max_age": 2}


def test_unknown_options_are_refused(stub_broker):
    with pytest.raises(ValueError, match="invalid"):

        class Work(GenericActor):
            class Meta:
                invalid = 1

            def perform(self):
                pass

    assert stub_broker.actors == {}


# -- abstract classes


def test_an_abstract_class_stays_a_class(stub_broker):
    class Base(GenericActor):
        class Meta:
            abstract = True
            queue_name = "tasks"

        def perform(self, *args):
            return self.work(*args)

    assert isinstance(Base, type)
    assert stub_broker.actors == {}

    class First(Base):
        def work(self, value):
            return value

    class Second(Base):
        def work(self, value):
            return -value

    assert set(stub_broker.actors) == {"First", "Second"}
    assert (First(1), Second(1)) == (1, -1)
    assert (First.queue_name, Second.queue_name) == ("tasks", "tasks")
    assert First.options == {}


def test_abstract_classes_may_be_stacked(stub_broker):
    class Base(GenericActor):
        class Meta:
            abstract = True

    class Middle(Base):
        class Meta:
            abstract = True
            queue_name = "middle"

    class Work(Middle):
        def perform(self):
            pass

    assert isinstance(Middle, type)
    assert Work.queue_name == "middle"
    assert set(stub_broker.actors) == {"Work"}


def test_the_base_class_is_abstract():
    assert isinstance(GenericActor, type)
    assert issubclass(GenericActor, object)


def test_unknown_attributes_of_classes_are_attribute_errors(stub_broker):
    class Base(GenericActor):
        class Meta:
            abstract = True

    for cls in (GenericActor, Base):
        with pytest.raises(AttributeError):
            _ = cls.send
        with pytest.raises(AttributeError):
            _ = cls().send


def test_unknown_attributes_of_instances_are_attribute_errors(add):
    with pytest.raises(AttributeError, match="unknown"):
        _ = add.unknown


def test_a_concrete_actor_cannot_be_subclassed(add):
    with pytest.raises(TypeError):

        class More(add):
            pass


# -- perform


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {"a": 3})])
def test_perform_must_be_implemented(stub_broker, args, kwargs):
    class Foo(GenericActor):
        pass

    with pytest.raises(NotImplementedError) as caught:
        Foo(*args, **kwargs)

    assert str(caught.value) == "Foo does not implement perform()"


def test_a_wrong_call_names_perform(add):
    with pytest.raises(TypeError, match=r"Add\.perform\(\)"):
        add(1)


def test_a_coroutine_as_perform_runs_like_an_async_actor(stub_broker):
    class Fetch(GenericActor):
        async def perform(self):
            pass

    assert Fetch.coroutine_function is Fetch
    with pytest.raises(RuntimeError, match="event loop thread"):
        Fetch.__actor__()


# -- registries


def test_a_registry_is_called_in_place_of_the_decorator(stub_broker):
    calls = []

    def registry(*args, **kwargs):
        calls.append((args, kwargs))
        return "registered"

    class Work(GenericActor):
        class Meta:
            actor = registry
            queue_name = "tasks"

        def perform(self):
            pass

    assert calls == [((Work,), {"queue_name": "tasks"})]
    assert Work.__actor__ == "registered"
    assert Work.upper() == "REGISTERED"
    assert stub_broker.actors == {}


def test_a_registry_without_options_is_called_with_the_instance_alone(stub_broker):
    calls = []

    class Work(GenericActor):
        class Meta:
            actor = staticmethod(lambda *args, **kwargs: calls.append((args, kwargs)))

        def perform(self):
            pass

    assert calls == [((Work,), {})]


def test_abstract_bases_may_choose_the_registry(stub_broker):
    registered = []

    class Base(GenericActor):
        class Meta:
            abstract = True
            actor = registered.append

    class Work(Base):
        def perform(self):
            pass

    assert registered == [Work]


def test_an_instance_can_be_pickled_through_its_actor(add):
    assert pickle.loads(pickle.dumps(add.__actor__)) is add.__actor__


def test_class_based_actors_are_not_actors_themselves(add):
    assert not isinstance(add, Actor)
    assert isinstance(dramatiq.get_broker().get_actor("Add"), Actor)
