"""What a store of workflows must do: what its rules say, in atomic steps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..message import generate_unique_id
from ..workflows.rules import arrive, exchange
from ..workflows.store import Arrival, Change, Status

if TYPE_CHECKING:
    from ..workflows.store import WorkflowStore

__all__ = ["WorkflowStoreContract"]

_FRAMES = ("0", "0.1")
_MARKS = (b"+1", b"!2", b"~3", b"=", b"-4", b"c", b"u")
_STATES = (b"running", b"failed", b"cancelled")
_NAMES = [
    *(":state", ":done", ":failed"),
    *(f"{frame}{name}" for frame in _FRAMES for name in (":pos", ":left", ":bad", "#0", "#1")),
]

_arrivals = st.tuples(
    st.sampled_from(_FRAMES), st.integers(0, 1), st.sampled_from(_MARKS), st.booleans()
)
_changes = st.tuples(
    st.dictionaries(st.sampled_from(_NAMES[:1]), st.sampled_from(_STATES)),
    st.dictionaries(st.just("0.1:pos"), st.none() | st.sampled_from([b"0", b"1"]), max_size=1),
    st.dictionaries(st.just("0:left"), st.integers(1, 2)),
)
_operations = st.lists(
    st.one_of(st.tuples(st.just("arrive"), _arrivals), st.tuples(st.just("change"), _changes))
)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
class WorkflowStoreContract:
    """Subclasses supply a fixture ``store``."""

    def make(self, store: WorkflowStore, **fields: bytes) -> str:
        """Store a workflow and return its id."""
        flow = generate_unique_id()
        store.add(flow, 1)
        assert store.change(flow, Change({}, {":state": b"running", **fields}))
        return flow

    def test_it_follows_the_rules(self, store: WorkflowStore) -> None:
        """Do with random operations what the rules do."""
        initial = {":state": b"running", "0:left": b"2", "0.1:pos": b"0"}

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(_operations)
        def check(operations: Any) -> None:
            flow = self.make(store, **initial)
            fields = dict(initial)
            for kind, operation in operations:
                if kind == "arrive":
                    frame, child, value, is_leaf = operation
                    arrival = Arrival(flow, frame, child, value, is_leaf)
                    assert [arrive(fields, arrival)] == store.arrive([arrival])
                else:
                    change = Change(*operation)
                    assert exchange(fields, change) == store.change(flow, change)
            assert [fields.get(name) for name in _NAMES] == store.read(flow, _NAMES)

        check()

    def test_many_arrivals_of_several_workflows_are_told_apart(self, store: WorkflowStore) -> None:
        """Answer in the order of the arrivals."""
        small = self.make(store, **{"0:left": b"1"})
        large = self.make(store, **{"0:left": b"2"})

        statuses = store.arrive(
            [
                Arrival(large, "0", 0, b"+1"),
                Arrival(small, "0", 0, b"+1"),
                Arrival("gone", "0", 0, b"+1"),
                Arrival(large, "0", 1, b"+1"),
            ]
        )

        assert [Status.WAITING, Status.READY, Status.GONE, Status.READY] == statuses

    def test_of_many_who_make_the_same_change_one_succeeds(self, store: WorkflowStore) -> None:
        """Compare and exchange in one step."""
        flow = self.make(store, **{"0:pos": b"0"})
        changed: list[bool] = []

        def change() -> None:
            changed.append(store.change(flow, Change({"0:pos": b"0"}, {"0:pos": b"1"})))

        threads = [threading.Thread(target=change) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert 1 == sum(changed)

    def test_many_fields_can_be_read(self, store: WorkflowStore) -> None:
        """Return them in the order in which they were asked for."""
        names = [f"0#{number}" for number in range(1500)]
        flow = self.make(store, **{name: name.encode() for name in names})

        assert [*(name.encode() for name in names), None] == store.read(flow, [*names, "other"])

    def test_workflows_are_listed_the_newest_first(self, store: WorkflowStore) -> None:
        """List them by pages."""
        flows = []
        for created_at in range(3):
            flow = generate_unique_id()
            store.add(flow, created_at)
            store.change(flow, Change({}, {":state": b"running"}))
            flows.append(flow)

        first, cursor = store.flows(2)
        second, _ = store.flows(2, cursor)

        assert flows[::-1] == first + second

    def test_a_workflow_can_be_marked_cancelled(self, store: WorkflowStore) -> None:
        """Mark a whole one and a part of one, and take it back."""
        flow = self.make(store)

        store.mark_cancelled(flow, True)
        store.mark_cancelled(f"{flow}/0.1", True)
        assert {flow, f"{flow}/0.1"} == store.cancelled()

        store.mark_cancelled(flow, False)
        assert {f"{flow}/0.1"} == store.cancelled()

    def test_a_deleted_workflow_is_gone(self, store: WorkflowStore) -> None:
        """Forget it."""
        flow = self.make(store)

        store.delete(flow)

        assert [None] == store.read(flow, [":state"])
        assert ([], None) == store.flows(10)
