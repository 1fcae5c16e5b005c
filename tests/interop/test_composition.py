"""Pipelines and groups whose parts are run by different fleets."""

from __future__ import annotations

import pytest

from tests.interop.harness import FLEETS

PIPELINE = "add_left.message(10, 1) | add_right.message(100) | add_left.message(1000) | {last}"


@pytest.fixture
def split(site, direction):
    """One fleet serves the queue `left`, the other the queue `right`."""
    left, right = (site.console(fleet) for fleet in direction)
    left("start(queues={'left', 'default'})")
    right("start(queues={'right'})")
    return left, right


@pytest.mark.parametrize("sending", FLEETS)
def test_the_steps_of_a_pipeline_alternate_between_the_fleets(site, split, sending):
    left, right = split
    last = "finish.message()"

    value = site.console(sending)(
        f"({PIPELINE.format(last=last)}).run().get_result(block=True, timeout=5000)"
    )

    assert 1111 == value
    site.wait_until_drained()
    steps = [(entry.kind, entry.number, entry.fleet) for entry in site.ledger.entries()]
    assert [
        ("left", 1, left.fleet),
        ("right", 11, right.fleet),
        ("left", 111, left.fleet),
        ("end", 1111, right.fleet),
    ] == steps


@pytest.mark.parametrize("sending", FLEETS)
def test_a_delayed_step_of_a_pipeline_waits(site, split, sending):
    del split

    site.console(sending)(
        "(add_left.message(10, 1) | finish.message_with_options(delay=300)).run()"
    )

    site.wait_until_drained()
    before, after = site.ledger.entries()
    assert ("left", "end") == (before.kind, after.kind)
    assert 0.3 <= (after.at_ns - before.at_ns) / 1e9 < 2


@pytest.mark.parametrize("sending", FLEETS)
def test_a_groups_callback_runs_once_after_members_of_both_fleets(site, split, sending):
    site.console(sending)(
        "g = dramatiq.group("
        "    [work.message(n, 20) for n in range(10)]"
        "    + [finish.message(n) for n in range(10, 20)]"
        "    + [add_left.message(1, 20) | finish.message()])\n"
        "g.add_completion_callback(call_back.message(1))\n"
        "g.run()"
    )

    site.wait_for(1, "called_back")
    site.wait_until_drained()
    assert [1] == site.ledger.numbers("called_back")
    assert [*range(20), 21] == site.ledger.numbers()
    assert "called_back" == site.ledger.entries()[-1].kind
    assert set(FLEETS) == site.ledger.fleets()


@pytest.mark.parametrize("sending", FLEETS)
def test_results_of_a_group_come_from_both_fleets(site, sending):
    for fleet in FLEETS:
        site.console(fleet)("start(threads=1)")

    values = site.console(sending)(
        "list(dramatiq.group(square.message(n) for n in range(20)).run()"
        ".get_results(block=True, timeout=10000))"
    )

    assert [n * n for n in range(20)] == values
