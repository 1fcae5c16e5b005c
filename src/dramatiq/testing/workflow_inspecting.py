"""Looking at workflows, cancelling and retrying them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ..composition import WorkflowFailed, group, pipeline
from .waiting import wait_until
from .workflow_suite import PATIENCE, WorkflowSuite

if TYPE_CHECKING:
    from ..broker import Broker
    from .broker_suite import Ledger

__all__ = ["InspectingTests"]


class InspectingTests(WorkflowSuite):
    """What `Broker.inspection` tells of workflows and does to them."""

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
