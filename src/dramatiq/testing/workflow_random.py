"""Random workflows, and a plain evaluator that says what they come to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..composition import WorkflowFailed, group, pipeline
from .workflow_suite import PATIENCE, WorkflowSuite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..broker import Broker
    from .broker_suite import Ledger

__all__ = ["Failed", "RandomTests", "evaluate", "simplified", "trees"]


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


# Threads that run meanwhile use the process-wide random numbers.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
class RandomTests(WorkflowSuite):
    """Compares random workflows with the evaluator."""

    #: How many are tried; more of them in the full chaos runs.
    random_workflows: ClassVar[int] = 1000 if os.environ.get("DRAMATIQ_CHAOS") == "full" else 12

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
