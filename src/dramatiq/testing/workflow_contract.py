"""What holds for workflows on any broker that can keep them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..actor import actor as declare_actor
from ..composition import WorkflowFailed, group, pipeline
from ..middleware import Middleware, MiddlewareError
from ..worker import Worker
from ..workflows.policies import OPTION
from .broker_suite import Ledger
from .waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..broker import Broker

__all__ = ["WorkflowContract"]

#: Milliseconds a workflow may take.
PATIENCE = 20_000


def echo(*given: Any) -> list[Any]:
    """Return what was given."""
    return list(given)


async def aecho(*given: Any) -> list[Any]:
    """Return what was given, on the event loop."""
    return list(given)


def fail(*given: Any) -> None:
    """Fail."""
    raise ValueError(f"failed on {given!r}")


class Veto(Middleware):
    """Refuses messages that say so."""

    is_loop_safe = True

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Refuse."""
        if message.options.get("is_vetoed"):
            raise MiddlewareError("vetoed")


# Threads that run meanwhile use the process-wide random numbers.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
class WorkflowContract:
    """Subclasses supply a fixture ``broker`` that can keep workflows."""

    #: How many random workflows are tried; more of them in the full chaos runs.
    random_workflows: ClassVar[int] = 1000 if os.environ.get("DRAMATIQ_CHAOS") == "full" else 12

    @pytest.fixture
    def ledger(self) -> Ledger:
        """Where actors write what they were given."""
        return Ledger()

    @pytest.fixture(autouse=True)
    def worker(
        self, broker: Broker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Any]:
        """Declare the actors, and run a worker."""
        monkeypatch.setattr("dramatiq.broker.global_broker", broker)
        self.declare(broker, ledger)
        worker = Worker(broker, worker_timeout=100, worker_threads=4)
        worker.start()
        yield worker
        worker.stop()

    def declare(self, broker: Broker, ledger: Ledger) -> None:
        """Declare the actors."""
        self.is_told = False

        def fail_until_told(*given: Any) -> list[Any]:
            if not self.is_told:
                raise ValueError("not told yet")
            return list(given)

        attempts = []

        def fail_once(*given: Any) -> list[Any]:
            attempts.append(given)
            if len(attempts) == 1:
                raise ValueError("once")
            return list(given)

        def note(*given: Any) -> None:
            ledger.write(given)

        def split(count: int, *given: Any) -> Any:
            return group([self.echo.message(each) for each in range(count)]) | self.echo.message()

        def count_down(number: int, *given: Any) -> Any:
            return self.count_down.message(number - 1) if number else "zero"

        def grow(number: int) -> int:
            if number:
                group.current().add(self.grow.message(number - 1))
            return number

        self.echo: Any = declare_actor(echo, broker=broker)
        self.aecho: Any = declare_actor(aecho, broker=broker)
        self.fail: Any = declare_actor(fail, broker=broker, max_retries=0)
        self.fail_until_told: Any = declare_actor(fail_until_told, broker=broker, max_retries=0)
        self.fail_once: Any = declare_actor(fail_once, broker=broker, max_retries=1, min_backoff=1)
        self.note: Any = declare_actor(note, broker=broker)
        self.split: Any = declare_actor(split, broker=broker)
        self.count_down: Any = declare_actor(count_down, broker=broker)
        self.grow: Any = declare_actor(grow, broker=broker)

    def result(self, composed: Any) -> Any:
        """Run a pipeline and return its result."""
        return composed.run().get_result(block=True, timeout=PATIENCE)

    # -- nesting

    def test_a_step_after_a_group_gets_the_results_of_its_children_in_order(self) -> None:
        """Get the list."""
        echo = self.echo
        children = [echo.message("b"), echo.message("c") | self.aecho.message("d")]
        composed = echo.message("a") | group(children) | echo.message("e")

        assert ["e", [["b", ["a"]], ["d", ["c", ["a"]]]]] == self.result(composed)

    def test_an_empty_group_is_done_at_once(self) -> None:
        """Get an empty list."""
        composed = self.echo.message(1) | group([group([]), group([])]) | self.echo.message(2)

        assert [2, [[], []]] == self.result(composed)

    def test_a_step_can_ignore_the_result_of_a_group(self) -> None:
        """Get nothing."""
        ignoring = self.echo.message(1).copy(options={"pipe_ignore": True})

        assert [1] == self.result(group([self.echo.message()]) | ignoring)

    def test_results_can_be_asked_for_at_every_level(self) -> None:
        """Get them from the pipeline and from the group inside."""
        inner: group[Any] = group([self.echo.message(1), self.echo.message(2)])
        composed = self.echo.message(0) | inner | self.echo.message(3)

        composed.run()

        assert [3, [[1, [0]], [2, [0]]]] == composed.get_result(block=True, timeout=PATIENCE)
        assert [[0], [[1, [0]], [2, [0]]]] == list(composed.get_results())[:2]
        assert [[1, [0]], [2, [0]]] == list(inner.get_results())
        assert composed.completed
        assert inner.completed
        assert 3 == composed.completed_count
        assert 2 == inner.completed_count

    def test_callbacks_of_a_group_with_a_group_inside_are_sent_once(self, ledger: Ledger) -> None:
        """Count in groups too."""
        outer: group[Any] = group([self.echo.message(1), group([self.echo.message(2)])])
        outer.add_completion_callback(self.note.message("all"))

        outer.run().wait(timeout=PATIENCE)

        assert [("all",)] == ledger.wait_for(1)

    def test_a_wide_group_starts_in_several_steps(self) -> None:
        """Have more children than one step starts."""
        children = [self.echo.message(number) for number in range(1200)]
        composed = group(children) | self.echo.message()

        assert [[[number] for number in range(1200)]] == self.result(composed)

    def test_a_pipeline_may_have_more_steps_than_fit_into_a_message(self) -> None:
        """Have steps that each pass their result on."""
        composed: pipeline[Any] = pipeline([self.count_down.message(0) for _ in range(420)])

        assert "zero" == self.result(composed)

    # -- failures

    def test_a_failure_names_its_message_and_stops_what_follows(self, ledger: Ledger) -> None:
        """Fail as a whole."""
        failing = self.fail.message()
        composed: pipeline[Any] = pipeline(
            [self.echo.message(), group([failing]), self.note.message("never")],
            on_failure=self.note.message("failed"),
        )

        with pytest.raises(WorkflowFailed) as caught:
            self.result(composed)

        assert failing.message_id == caught.value.message_id
        assert "fail" == caught.value.actor_name
        [(word, error)] = ledger.wait_for(1)
        assert ("failed", "ValueError") == (word, error["type"])

    def test_a_failure_can_be_ignored(self) -> None:
        """Get None in its place."""
        composed: group[Any] = group(
            [self.fail.message().if_failed("ignore"), self.echo.message(1)]
        )

        assert [[None, [1]]] == self.result(composed | self.echo.message())

    def test_a_failure_can_be_a_value(self) -> None:
        """Get the error in its place."""
        composed: pipeline[Any] = pipeline(
            [self.fail.message(), self.echo.message()], failure="value"
        )

        [value] = self.result(composed)

        assert ("ValueError", "fail") == (value["error"]["type"], value["error"]["actor"])

    def test_what_follows_success_gets_the_result(self, ledger: Ledger) -> None:
        """Get the list."""
        group([self.echo.message(1)], on_success=self.note.message("done")).run()

        assert [("done", [[1]])] == ledger.wait_for(1)

    def test_a_message_that_no_worker_knows_fails_its_workflow(self) -> None:
        """Fail although it never runs."""
        unknown = self.echo.message().copy(actor_name="unknown")

        with pytest.raises(WorkflowFailed, match="ActorNotFound"):
            self.result(group([unknown]) | self.echo.message())

    def test_a_message_that_dies_without_failing_fails_its_workflow(self, broker: Broker) -> None:
        """Fail when it has brought down too many processes, for example."""
        later = self.echo.message().copy(options={"delay": 60_000})
        composed = group([later]) | self.echo.message()
        composed.run()
        [info] = broker.inspection.workflows()[0]
        dead = later.copy(options={OPTION: [info.workflow_id, "0.0", 0]})

        broker.tell_workflows_of_dead([dead], "poison: 3 processes died while they ran it")

        with pytest.raises(WorkflowFailed, match="poison"):
            composed.get_result(block=True, timeout=PATIENCE)

    def test_a_skipped_message_fails_its_workflow(self, broker: Broker) -> None:
        """Fail when it is too old to run."""
        old = self.echo.message().copy(options={"max_age": 1}, message_timestamp=1)

        with pytest.raises(WorkflowFailed, match="age limit"):
            self.result(group([old]) | self.echo.message())

    def test_a_retried_message_is_waited_for(self) -> None:
        """Go on when it succeeds at last."""
        composed = group([self.fail_once.message(1)]) | self.echo.message()

        assert [[[1]]] == self.result(composed)

    def test_a_message_that_cannot_be_sent_fails_its_workflow(
        self, broker: Broker, ledger: Ledger
    ) -> None:
        """Fail although it was never stored."""
        broker.add_middleware(Veto())
        vetoed = self.echo.message(2).copy(options={"is_vetoed": True})
        composed: pipeline[Any] = pipeline(
            [self.echo.message(1), group([self.echo.message(3), vetoed])],
            on_failure=self.note.message("failed"),
        )

        with pytest.raises(WorkflowFailed, match="MiddlewareError"):
            self.result(composed)

        assert ["failed"] == [word for word, _ in ledger.wait_for(1)]

    # -- children that are decided at run time

    def test_what_an_actor_returns_takes_its_place(self) -> None:
        """Wait for what it returned."""
        composed = group([self.split.message(2)]) | self.echo.message()

        assert [[[[[0], [1]]]]] == self.result(composed)

    def test_a_message_that_an_actor_returns_takes_its_place(self) -> None:
        """Wait for the last of them."""
        assert [["zero"]] == self.result(group([self.count_down.message(3)]) | self.echo.message())

    def test_a_flat_pipeline_goes_on_after_what_a_step_returned(self, ledger: Ledger) -> None:
        """Pass the result on."""
        pipeline([self.split.message(2), self.note.message("next")]).run()

        assert [("next", [[[0], [1]]])] == ledger.wait_for(1)

    def test_a_child_can_add_to_its_group(self) -> None:
        """Wait for those too."""
        assert [[3, 2, 1, 0]] == self.result(group([self.grow.message(3)]) | self.echo.message())

    # -- inspection

    def test_progress_is_told(self, broker: Broker) -> None:
        """Count messages."""
        self.result(group([self.echo.message(), self.echo.message()]) | self.echo.message())

        [info] = broker.inspection.workflows()[0]
        assert ("done", 3, 3, 0) == (info.state.value, info.total, info.done, info.failed)

    def test_a_cancelled_workflow_starts_nothing_more_and_can_be_retried(
        self, broker: Broker, ledger: Ledger
    ) -> None:
        """Skip what has not started; start it again."""
        later = self.echo.message(2).copy(options={"delay": 1000})
        composed = self.echo.message(1) | group([later]) | self.note.message("end")
        composed.run()
        [info] = broker.inspection.workflows()[0]
        wait_until(lambda: composed.completed_count == 1)

        assert broker.inspection.cancel_workflow(info.workflow_id)
        with pytest.raises(WorkflowFailed, match="cancelled"):
            composed.get_result(block=True, timeout=PATIENCE)
        tree = broker.inspection.workflow_tree
        wait_until(lambda: "cancelled" in str(tree(info.workflow_id)))

        assert [] == ledger.entries
        broker.inspection.retry_workflow(info.workflow_id)
        assert [("end", [[2, [1]]])] == ledger.wait_for(1)

    def test_a_part_can_be_cancelled_and_counts_as_failed(self, broker: Broker) -> None:
        """Go on without it, as its policy says."""
        later = self.echo.message(2).copy(options={"delay": 60_000})
        part: pipeline[Any] = pipeline([self.echo.message(1), later]).if_failed("ignore")
        composed = group([part, self.echo.message(3)]) | self.echo.message()
        composed.run()
        [info] = broker.inspection.workflows()[0]
        inspection = broker.inspection

        assert inspection.cancel_workflow(info.workflow_id, "0.0.0")

        assert [[None, [3]]] == composed.get_result(block=True, timeout=PATIENCE)
        assert not inspection.cancel_workflow(info.workflow_id, "0.0.0")

    def test_the_tree_shows_what_became_of_each_message(self, broker: Broker) -> None:
        """Tell states, actors and errors."""
        composed = group([self.echo.message(), self.fail.message()], failure="ignore")
        self.result(composed | self.echo.message(1))
        [info] = broker.inspection.workflows()[0]

        tree = broker.inspection.workflow_tree(info.workflow_id)

        assert tree is not None
        inner, last = tree.children
        assert ["done", "tolerated"] == [child.state for child in inner.children]
        assert ("echo", "done", "0.1") == (last.actor_name, last.state, last.node_id)

    def test_a_tree_can_be_cut_short_and_begin_anywhere(self, broker: Broker) -> None:
        """Share the nodes out among groups, and tell how many children there are."""
        rows = [group([self.echo.message(number)] * 6) for number in range(2)]
        self.result(group([*rows, self.echo.message()]) | self.echo.message())
        [info] = broker.inspection.workflows()[0]
        inspection = broker.inspection

        whole = inspection.workflow_tree(info.workflow_id, limit=9)
        part = inspection.workflow_tree(info.workflow_id, node_id="0.0.1", shown=3)

        assert whole is not None
        assert part is not None
        assert 9 == whole.count_below()
        first, second, single = whole.children[0].children
        assert [(2, 6, 6), (2, 6, 6)] == [
            (len(each.children), each.size, each.settled) for each in (first, second)
        ]
        assert ("message", []) == (single.kind, single.children)
        assert ("0.0.1", 3, 6) == (part.node_id, len(part.children), part.size)
        assert inspection.workflow_tree(info.workflow_id, node_id="0.1") is None

    def test_a_part_that_is_not_there_is_refused(self, broker: Broker) -> None:
        """Change nothing then."""
        later = self.echo.message(1).copy(options={"delay": 60_000})
        (group([later]) | self.echo.message()).run()
        [info] = broker.inspection.workflows()[0]
        inspection = broker.inspection

        for node_id in ("0.7", "0.0.7", "odd", "0.x"):
            with pytest.raises(ValueError, match="node"):
                inspection.cancel_workflow(info.workflow_id, node_id)
            with pytest.raises(ValueError, match="node"):
                inspection.retry_workflow(info.workflow_id, node_id)

        assert broker.workflows.store.cancelled() == set()
        assert inspection.workflow(info.workflow_id) == info

    def test_what_is_not_there_is_told(self, broker: Broker) -> None:
        """Return None."""
        inspection = broker.inspection

        assert inspection.workflow("gone") is None
        assert inspection.workflow_tree("gone") is None
        assert inspection.retry_workflow("gone") is None
        assert not inspection.cancel_workflow("gone")

    def test_a_failed_workflow_goes_on_when_its_dead_letters_are_put_back(
        self, broker: Broker
    ) -> None:
        """Fail, then succeed."""
        children = [self.fail_until_told.message(1), self.fail_until_told.message(2)]
        composed = group([group(children), self.echo.message(3)]) | self.echo.message()
        with pytest.raises(WorkflowFailed):
            self.result(composed)
        [info] = broker.inspection.workflows()[0]
        wait_until(lambda: broker.inspection.queue("default").counts.dead == 2)

        self.is_told = True
        assert 2 == broker.inspection.retry_workflow(info.workflow_id)

        assert [[[[1], [2]], [3]]] == composed.get_result(block=True, timeout=PATIENCE)

    # -- all at random

    def test_random_workflows_come_to_what_they_should(
        self, broker: Broker, ledger: Ledger
    ) -> None:
        """Compare with a plain evaluator; what follows the end is sent once."""

        @settings(
            max_examples=self.random_workflows,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(trees)
        def check(tree: Any) -> None:
            ledger.entries.clear()
            composed = self.build(("chain", [tree], "fail", "fail"))
            composed.on_success = self.note.message("succeeded")
            composed.on_failure = self.note.message("failed")
            try:
                expected = evaluate(("chain", [tree], "fail", "fail"), ())
            except Failed:
                with pytest.raises(WorkflowFailed):
                    self.result(composed)
                assert ["failed"] == [word for word, _ in ledger.wait_for(1)]
            else:
                assert expected == simplified(self.result(composed))
                assert ["succeeded"] == [word for word, _ in ledger.wait_for(1)]
            broker.join("default", timeout=PATIENCE)
            assert 1 == len(ledger.entries)

        check()

    def build(self, tree: Any) -> Any:
        """Return a tree as a composition."""
        kind, children, failure, own = tree
        if kind == "message":
            actor: Any = {"echo": self.echo, "aecho": self.aecho, "fail": self.fail}[children]
            return actor.message(children).if_failed(own) if own else actor.message(children)
        make: Any = pipeline if kind == "chain" else group
        composed = make([self.build(child) for child in children], failure=failure)
        return composed.if_failed(own) if own else composed


class Failed(Exception):
    """Something failed and nothing allows it."""


def evaluate(tree: Any, given: tuple[Any, ...]) -> Any:
    """Return what a tree comes to.

    Raises:
        Failed: If it fails.
    """
    kind, children, failure, _ = tree
    if kind == "message":
        if children == "fail":
            raise Failed
        return [children, *given]
    if kind == "chain":
        value: Any = None
        for child in _spliced(children):
            value = _tolerate(child, failure, given)
            given = (value,)
        return value
    values = []
    is_failed = False
    for child in children:
        try:
            values.append(_tolerate(child, failure, given))
        except Failed:
            is_failed = True
    if is_failed:
        raise Failed
    return values


def _spliced(children: list[Any]) -> Iterator[Any]:
    """Yield steps; a chain in a chain that says nothing about failures is taken apart."""
    for child in children:
        if child[0] == "chain" and child[2:] == ("fail", None):
            yield from _spliced(child[1])
        else:
            yield child


def _tolerate(child: Any, failure: str, given: tuple[Any, ...]) -> Any:
    try:
        return evaluate(child, given)
    except Failed:
        policy = child[3] or failure
        if policy == "fail":
            raise
        return None if policy == "ignore" else "error"


def simplified(value: Any) -> Any:
    """Return a result in which a word stands for each error."""
    if isinstance(value, dict):
        return "error"
    return [simplified(each) for each in value] if isinstance(value, list) else value


_policies = st.sampled_from(["fail", "ignore", "value"])
_own = st.none() | _policies
_messages = st.tuples(
    st.just("message"), st.sampled_from(["echo", "echo", "aecho", "fail"]), st.just("fail"), _own
)
#: Kind, children (or the actor), what becomes of it if a child fails, and of its parent if it does.
trees = st.recursive(
    _messages,
    lambda children: st.one_of(
        st.tuples(st.just("chain"), st.lists(children, min_size=1, max_size=4), _policies, _own),
        st.tuples(st.just("group"), st.lists(children, max_size=4), _policies, _own),
    ),
    max_leaves=12,
)
