"""What holds for workflows on any broker that can keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..composition import WorkflowFailed, group, pipeline
from ..middleware import Middleware, MiddlewareError
from ..workflows.policies import OPTION
from .workflow_inspecting import InspectingTests
from .workflow_random import RandomTests
from .workflow_suite import PATIENCE

if TYPE_CHECKING:
    from ..broker import Broker
    from .broker_suite import Ledger

__all__ = ["WorkflowContract"]


class Veto(Middleware):
    """Refuses messages that say so."""

    is_loop_safe = True

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Refuse."""
        if message.options.get("is_vetoed"):
            raise MiddlewareError("vetoed")


class WorkflowContract(InspectingTests, RandomTests):
    """Tests of workflows. Subclasses supply a fixture ``broker`` that can keep them."""

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
