from __future__ import annotations

import time

import pytest

import dramatiq
from dramatiq import group, pipeline
from dramatiq.brokers.stub import StubBroker
from dramatiq.message import Message
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend as LimitsBackend
from dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout
from dramatiq.results.backends import StubBackend

LONG = 60_000


@pytest.fixture
def broker(monkeypatch):
    broker = StubBroker()
    broker.add_middleware(Results(backend=StubBackend(), store_results=True))
    broker.add_middleware(GroupCallbacks(LimitsBackend()))
    monkeypatch.setattr("dramatiq.broker.global_broker", broker)
    yield broker
    StubBackend.results.clear()


@pytest.fixture
def add(broker):
    @dramatiq.actor
    def add(*numbers):
        return sum(numbers)

    return add


def queued(broker, queue_name="default"):
    queue = broker.queues[queue_name]
    return [Message.decode(queue.get(timeout=1)) for _ in range(queue.qsize())]


def store(broker, message, result):
    broker.get_results_backend().store_result(message, result, LONG)


def fail(broker, message):
    broker.get_results_backend().store_exception(message, RuntimeError("failed"), LONG)


# -- building pipelines


def test_each_message_of_a_pipeline_carries_the_next(add):
    first, second, third = add.message(1), add.message(2), add.message(3)

    chain = pipeline([first, second, third])

    target = chain.messages[0].options["pipe_target"]
    assert (target["message_id"], target["args"]) == (second.message_id, (2,))
    assert target["options"]["pipe_target"]["message_id"] == third.message_id
    assert "pipe_target" not in chain.messages[2].options


def test_a_pipeline_leaves_the_messages_given_to_it_alone(add):
    first, second = add.message(1), add.message(2)

    chain = first | second

    assert first.options == second.options == {}
    assert [message.message_id for message in chain.messages] == [
        first.message_id,
        second.message_id,
    ]


def test_pipelines_in_a_pipeline_are_taken_apart(add):
    inner = pipeline([add.message(2), add.message(3)])

    chain = pipeline([add.message(1), inner, pipeline([pipeline([add.message(4)])])])

    assert [message.args for message in chain.messages] == [(1,), (2,), (3,), (4,)]
    assert len(chain) == 4
    assert "pipe_target" not in inner.messages[1].options


def test_messages_and_pipelines_are_combined_by_the_or_operator(add):
    one, two, three = add.message(1), add.message(2), add.message(3)

    chains = [one | two | three, one | (two | three), pipeline([one]) | two | three]

    assert {str(chain) for chain in chains} == {"pipeline([add(1), add(2), add(3)])"}


def test_combining_keeps_the_class_of_a_pipeline_and_not_its_broker(broker, add):
    class special(pipeline):  # noqa: N801 - like the class it is made of
        pass

    other_broker = StubBroker()

    combined = special([add.message(1)], broker=other_broker) | add.message(2)

    assert type(combined) is special
    assert combined.broker is broker


def test_the_last_message_keeps_the_target_it_came_with(add):
    target = add.message(3).asdict()

    chain = add.message(1) | add.message_with_options(args=(2,), pipe_target=target)

    assert chain.messages[1].options["pipe_target"] == target


def test_options_set_on_a_message_of_a_pipeline_reach_the_message_that_carries_it(add):
    chain = add.message(1) | add.message(2)

    chain.messages[1].options["delay"] = 5

    assert chain.messages[0].options["pipe_target"]["options"]["delay"] == 5


@pytest.mark.parametrize("kind", [pipeline, group])
def test_what_is_no_message_is_refused_with_a_hint(add, kind):
    with pytest.raises(TypeError, match=r"actor\.message"):
        kind([add])


# -- running pipelines


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [(None, None, None), (0, 0, None), (500, None, 500), (None, 500, 500), (10, 500, 500)],
)
def test_the_longer_delay_wins(broker, add, own, given, expected):
    options = {} if own is None else {"delay": own}
    chain = pipeline([add.message_with_options(args=(1,), **options), add.message(2)])
    before = dramatiq.common.current_millis()

    returned = chain.run(delay=given)

    assert returned is chain
    if expected is None:
        assert [message.args for message in queued(broker)] == [(1,)]
    else:
        [message] = queued(broker, "default.DQ")
        assert before + expected <= message.options["eta"] < before + expected + 5000


def test_a_pipeline_uses_the_broker_it_was_given(broker, add):
    other_broker = StubBroker(middleware=[])
    other_broker.declare_queue("default")

    pipeline([add.message(1)], broker=other_broker).run()

    assert len(queued(other_broker)) == 1
    assert queued(broker) == []


def test_an_empty_pipeline_has_nothing_to_run(broker):
    empty = pipeline([])

    with pytest.raises(IndexError):
        empty.run()
    with pytest.raises(IndexError):
        _ = empty.completed


# -- results of pipelines


def test_a_pipeline_is_completed_as_far_as_there_are_results_without_a_gap(broker, add):
    chain = add.message(1) | add.message(2) | add.message(3)
    progress = [(chain.completed_count, chain.completed)]

    for index in (0, 2, 1):
        store(broker, chain.messages[index], index)
        progress.append((chain.completed_count, chain.completed))

    assert progress == [(0, False), (1, False), (1, True), (3, True)]
    assert chain.get_result() == 2
    assert list(chain.get_results()) == [0, 1, 2]


def test_a_failed_step_is_raised(broker, add):
    chain = add.message(1) | add.message(2)
    fail(broker, chain.messages[0])

    with pytest.raises(ResultFailure):
        _ = chain.completed_count
    with pytest.raises(ResultFailure):
        list(chain.get_results())
    assert not chain.completed


def test_results_come_from_the_broker_of_the_composition(broker, add):
    other_broker = StubBroker(middleware=[Results(backend=StubBackend(namespace="other"))])
    chain = pipeline([add.message(1)], broker=other_broker)
    side = group([chain.messages[0], chain], broker=other_broker)
    store(broker, chain.messages[0], "here")
    unseen = (chain.completed, chain.completed_count, side.completed_count)

    store(other_broker, chain.messages[0], "there")

    assert unseen == (False, 0, 0)
    assert (chain.completed, chain.completed_count, side.completed_count) == (True, 1, 2)
    assert list(side.get_results()) == ["there", "there"]


def test_a_timeout_is_a_budget_for_all_steps_together(broker, add):
    chain = add.message(1) | add.message(2)
    store(broker, chain.messages[0], 1)
    started_at = time.monotonic()

    results = chain.get_results(block=True, timeout=300)

    assert next(results) == 1
    with pytest.raises(ResultTimeout):
        next(results)
    assert time.monotonic() - started_at < 2


@pytest.mark.parametrize("kind", [pipeline, group])
def test_without_a_result_backend_there_is_nothing_to_ask(add, kind):
    composition = kind([add.message(1)], broker=StubBroker())

    with pytest.raises(RuntimeError, match="results backend"):
        _ = composition.completed
    with pytest.raises(RuntimeError, match="results backend"):
        list(composition.get_results())


# -- groups


def test_a_group_takes_any_iterable_once(add):
    side = group(add.message(index) for index in range(3))

    assert len(side) == 3
    assert str(side) == "group([add(0), add(1), add(2)])"
    assert [message.args for message in side.children] == [(0,), (1,), (2,)]


def test_a_group_enqueues_all_of_its_children_in_order(broker, add):
    chain = add.message(3) | add.message(4)
    inner = group([add.message(5), add.message(6)])

    returned = (side := group([add.message(1), add.message(2), chain, inner, add.message(7)])).run()

    assert returned is side
    assert [message.args[0] for message in queued(broker)] == [1, 2, 3, 5, 6, 7]


def test_a_group_delays_all_of_its_children(broker, add):
    group([add.message(1), add.message(2) | add.message(3), group([add.message(4)])]).run(delay=9)

    assert queued(broker) == []
    assert [message.args[0] for message in queued(broker, "default.DQ")] == [1, 2, 4]


def test_an_empty_group_is_completed(broker):
    empty = group([])

    assert empty.run().completed
    assert list(empty.get_results()) == []


def test_results_of_a_group_come_in_the_order_of_its_children(broker, add):
    chain = add.message() | add.message()
    inner = group([add.message(), add.message()])
    side = group([add.message(), chain, inner])
    for message in (side.children[0], *chain.messages, *inner.children):
        store(broker, message, message.message_id)

    results = list(side.get_results())

    assert results == [
        side.children[0].message_id,
        chain.messages[1].message_id,
        [message.message_id for message in inner.children],
    ]


def test_a_group_counts_children_whose_results_are_there_in_any_order(broker, add):
    inner = group([add.message(), add.message()])
    chain = add.message() | add.message()
    side = group([add.message(), chain, inner])
    counts = [side.completed_count]

    for message in (
        chain.messages[1],
        inner.children[1],
        inner.children[0],
        side.children[0],
    ):
        store(broker, message, None)
        counts.append(side.completed_count)

    assert counts == [0, 1, 1, 2, 3]
    assert side.completed


def test_a_failed_child_is_raised(broker, add):
    side = group([add.message(), add.message()])
    fail(broker, side.children[1])
    store(broker, side.children[0], 1)

    with pytest.raises(ResultFailure):
        _ = side.completed_count
    with pytest.raises(ResultFailure):
        side.wait(timeout=100)


def test_waiting_for_a_group_ends_at_the_timeout(broker, add):
    side = group([add.message(), group([add.message()])])
    with pytest.raises(ResultTimeout):
        side.wait(timeout=50)
    with pytest.raises(ResultMissing):
        list(side.get_results())

    for message in (side.children[0], side.children[1].children[0]):
        store(broker, message, None)

    assert side.wait(timeout=50) is None


# -- completion callbacks


def test_members_carry_the_barrier_and_the_callbacks(broker, add):
    chain = add.message(2) | add.message(3)
    side = group([add.message(1), chain])
    side.add_completion_callback(add.message("done"))
    side.add_completion_callback(add.message("really"))

    side.run()

    first, second = queued(broker)
    last = Message(**second.options["pipe_target"])
    assert "group_completion_uuid" not in second.options
    assert first.options == last.options
    assert sorted(first.options) == ["group_completion_callbacks", "group_completion_uuid"]
    callbacks = [Message(**each) for each in first.options["group_completion_callbacks"]]
    assert [callback.args for callback in callbacks] == [("done",), ("really",)]
    assert side.children[0].options == chain.messages[1].options == {}


def test_each_run_has_a_barrier_of_its_own(broker, add):
    side = group([add.message(1)])
    side.add_completion_callback(add.message("done"))

    side.run()
    side.run()

    keys = {message.options["group_completion_uuid"] for message in queued(broker)}
    backend = broker.middleware[-1].rate_limiter_backend
    assert len(keys) == 2
    assert keys == set(backend.db)


def test_a_message_that_is_in_a_group_twice_counts_twice(broker, add):
    message = add.message(1)
    side = group([message] * 3)
    side.add_completion_callback(add.message("done"))

    side.run()

    members = [each.options.get("group_completion_member") for each in queued(broker)]
    assert members == [None, f"{message.message_id}@1", f"{message.message_id}@2"]


def test_callbacks_need_their_middleware(add):
    side = group([add.message(1)], broker=StubBroker())
    side.add_completion_callback(add.message("done"))

    with pytest.raises(RuntimeError, match="GroupCallbacks"):
        side.run()


def test_callbacks_of_a_group_of_groups_are_refused_where_nothing_keeps_workflows(
    broker, add, monkeypatch
):
    monkeypatch.setattr(StubBroker, "make_workflow_store", lambda broker: None)
    side = group([add.message(1), group([add.message(2)])])
    side.add_completion_callback(add.message("done"))

    with pytest.raises(NotImplementedError):
        side.run()

    assert queued(broker) == []


# -- workflows


def test_a_message_of_a_workflow_is_as_large_in_a_wide_one_as_in_a_narrow_one(broker, add):
    sizes = []
    for width in (10, 1000):
        (group(add.message(each) for each in range(width)) | add.message()).run()
        queue = broker.queues["default"]
        sizes.append(max(len(queue.get(timeout=1)) for _ in range(queue.qsize())))

    # The index has more digits.
    assert sizes[1] - sizes[0] < 10


def test_a_pipeline_that_is_put_into_a_workflow_is_not_linked_any_more(broker, add):
    flat = add.message(1) | add.message(2)

    (flat | group([add.message(3)])).run()

    [first] = queued(broker)
    assert "pipe_target" not in first.options
    assert "pipe_target" in flat.messages[0].options


def test_a_policy_that_is_none_is_refused(add):
    for refuse in (add.message(1).if_failed, group([]).if_failed, pipeline([]).if_failed):
        with pytest.raises(ValueError, match="'ignore'"):
            refuse("forget")


def test_there_is_no_current_group_outside_of_a_workflow():
    with pytest.raises(RuntimeError, match=r"group\.current"):
        group.current()


def test_a_workflow_needs_somewhere_to_be_kept(broker, add, monkeypatch):
    monkeypatch.setattr(StubBroker, "make_workflow_store", lambda broker: None)

    with pytest.raises(RuntimeError, match="result backend"):
        (add.message(1) | group([add.message(2)])).run()
