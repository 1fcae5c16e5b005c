from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dramatiq.workflows.rules import arrive, exchange
from dramatiq.workflows.store import Arrival, Change, Status


def group_of(size):
    return {":state": b"running", "0:left": b"%d" % size}


def chain():
    return {":state": b"running", "0:pos": b"0"}


def come(fields, child, value, *, is_leaf=True):
    return arrive(fields, Arrival("flow", "0", child, value, is_leaf))


def test_a_group_is_ready_when_the_last_child_arrived():
    fields = group_of(2)

    assert Status.WAITING == come(fields, 1, b"+1")
    assert Status.READY == come(fields, 0, b"+2")


def test_a_child_that_arrives_twice_counts_once():
    fields = group_of(2)
    come(fields, 0, b"+1")

    assert Status.WAITING == come(fields, 0, b"+2")
    assert (b"1", b"+1") == (fields["0:left"], fields["0#0"])


def test_whoever_made_a_frame_ready_is_told_so_again():
    fields = group_of(1)
    come(fields, 0, b"+1")

    assert Status.READY == come(fields, 0, b"+1")


def test_a_chain_is_ready_only_for_the_step_it_stands_at():
    fields = chain()

    assert Status.WAITING == come(fields, 1, b"+early")
    assert Status.READY == come(fields, 0, b"+1")


def test_a_failure_does_not_count_and_can_be_made_good():
    fields = group_of(2)
    come(fields, 1, b"+1")

    assert Status.FAILED == come(fields, 0, b"-error")
    assert Status.FAILED == come(fields, 0, b"-error")
    assert (b"1", b"1", b"1") == (fields["0:left"], fields["0:bad"], fields[":failed"])
    assert Status.RECOVERED == come(fields, 0, b"+1")
    assert (b"0", b"0", b"0") == (fields["0:left"], fields["0:bad"], fields[":failed"])


def test_a_success_is_not_undone_by_a_failure():
    fields = group_of(1)
    come(fields, 0, b"+1")

    assert Status.READY == come(fields, 0, b"-error")


def test_nothing_is_ready_in_a_workflow_that_does_not_run():
    fields = group_of(1)
    fields[":state"] = b"cancelled"

    assert Status.WAITING == come(fields, 0, b"+1")


def test_nothing_arrives_at_a_workflow_that_is_not_there():
    fields = {}

    assert Status.GONE == come(fields, 0, b"+1")
    assert fields == {}


def test_a_failure_that_is_forgotten_can_happen_again():
    fields = group_of(1)
    come(fields, 0, b"-error", is_leaf=False)

    assert Status.RECOVERED == come(fields, 0, b"u", is_leaf=False)
    assert Status.FAILED == come(fields, 0, b"-error", is_leaf=False)


def test_a_change_is_made_as_a_whole_or_not_at_all():
    fields = {"a": b"1"}

    assert not exchange(fields, Change({"a": b"1", "b": b"2"}, {"a": b"3"}))
    assert {"a": b"1"} == fields
    assert exchange(fields, Change({"a": b"1", "b": None}, {"a": None, "c": b"4"}, {"d": 5}))
    assert {"c": b"4", "d": b"5"} == fields


MARKS = [b"+1", b"!2", b"~3", b"=", b"-4", b"c", b"u"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(MARKS))))
def test_counts_are_what_they_count_whatever_arrives_in_whatever_order(arrivals):
    fields = group_of(4)

    statuses = [come(fields, child, value) for child, value in arrivals]

    marks = [fields.get(f"0#{child}", b"")[:1] for child in range(4)]
    settled = [mark for mark in marks if mark and mark in b"+!~="]
    assert 4 - len(settled) == int(fields["0:left"])
    assert len(settled) == int(fields.get(":done", 0))
    assert marks.count(b"-") == int(fields.get("0:bad", 0))
    assert marks.count(b"-") == int(fields.get(":failed", 0))
    if len(settled) == 4:
        # Also if the last had failed before: recovering looks at the whole frame.
        assert statuses[-1] in (Status.READY, Status.RECOVERED)
