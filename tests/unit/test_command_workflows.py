"""`workflows`: list, show, cancel and retry."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

import dramatiq
from dramatiq import group
from dramatiq.cli.commands.dispatch import make_verb_parser
from dramatiq.cli.commands.workflow_tree import rows_of
from dramatiq.cli.commands.workflows import VERBS
from dramatiq.workflows.tree import WorkflowNode


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def inspection(inspected_broker):
    return inspected_broker.inspection


@pytest.fixture
def start(inspected_broker):
    """Start a workflow of four messages, of which no worker is there to run any; return its id."""

    @dramatiq.actor
    def fetch(address):
        pass

    @dramatiq.actor
    def join(parts):
        pass

    def start(count=3):
        (group(fetch.message(number) for number in range(count)) | join.message()).run()
        [newest] = inspected_broker.inspection.workflows(limit=1)[0]
        return newest.workflow_id

    return start


def states(inspection):
    return [each.state.value for each in inspection.workflows()[0]]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_says_how_to_name_the_application(verb):
    text = make_verb_parser("workflows", verb).format_help()

    assert text.startswith(f"usage: dramatiq workflows {verb} ")
    assert "DRAMATIQ_BROKER_URL" in text


def test_a_verb_is_needed_and_comes_first(command):
    assert "required: VERB" in command("workflows")[2]
    assert "choose from" in command("workflows", "shw")[2]
    code, _, errors = command("workflows", "-v", "list")
    assert code == 2
    assert "the verb comes first: dramatiq workflows list" in errors


def test_workflows_are_listed_with_their_progress(command, start):
    flow = start()

    code, output, _ = command("workflows", "list")

    header, row = output.splitlines()
    assert code == 0
    assert header.split()[:5] == ["WORKFLOW", "STATE", "MESSAGES", "DONE", "FAILED"]
    assert re.match(rf"{flow}  running         4     0       0  \d+ms ago", row)


def test_workflows_are_listed_for_programs(command, start):
    flow = start()

    _, output, _ = command("workflows", "list", "--json")

    [info] = json.loads(output)
    assert (info["workflow_id"], info["state"], info["total"]) == (flow, "running", 4)


def test_workflows_are_listed_by_state(command, start, inspection):
    flows = [start() for _ in range(4)]
    inspection.cancel_workflow(flows[1])
    inspection.cancel_workflow(flows[2])

    output = command("workflows", "list", "--state", "cancelled", "--limit", "2")[1]

    assert {line.split()[0] for line in output.splitlines()[1:]} == {flows[1], flows[2]}
    assert command("workflows", "list", "--state", "done")[2] == "There are no done workflows.\n"


def test_a_workflow_is_shown_as_a_tree(command, start):
    flow = start()

    code, output, _ = command("workflows", "show", flow)

    lines = output.splitlines()
    assert code == 0
    assert lines[0] == f"workflow   {flow}"
    assert lines[1] == "state      running"
    assert lines[2] == "progress   0 of 4 messages done"
    tree = [re.split(r"  +", line)[:3] for line in lines[6:]]
    assert tree == [
        ["0", "chain, 0 of 2 ended", "running"],
        ["0.0", "group, 0 of 3 ended", "running"],
        *([f"0.0.{index}", "fetch", "running"] for index in range(3)),
        ["0.1", "join", "waiting"],
    ]


def test_a_tree_tells_what_failed_and_what_is_not_shown(command):
    error = {"type": "ValueError", "message": "bad\naddress"}
    failed = WorkflowNode("0.0", "message", "failed", "fetch", "id-1", error)

    rows = list(rows_of(WorkflowNode("0", "group", "failed", size=1200, children=[failed])))

    assert rows == [
        ["0", "group of 1,200", "failed", "", ""],
        ["0.0", "  fetch", "failed", "id-1", "ValueError: bad address"],
        ["", "  ... and 1,199 more", "", "", ""],
    ]


def test_the_beginning_of_an_id_is_enough_unless_others_begin_like_it(command, start):
    flow = start()
    assert command("workflows", "show", flow[:8])[1].startswith(f"workflow   {flow}")

    others = [start() for _ in range(17)]  # two of them begin with the same digit

    first_digits = [each[0] for each in (flow, *others)]
    double = next(each for each in first_digits if first_digits.count(each) > 1)
    code, _, errors = command("workflows", "show", double)
    assert code == 2
    assert f"workflows begin with '{double}': " in errors


def test_a_workflow_can_be_drawn_and_printed_for_programs(command, start):
    flow = start()

    assert command("workflows", "show", flow, "--mermaid")[1].startswith("flowchart LR\n")
    shown = json.loads(command("workflows", "show", flow, "--json", "--limit", "1")[1])

    assert (shown["workflow_id"], shown["state"]) == (flow, "running")
    assert [each["kind"] for each in shown["tree"]["children"]] == ["group"]


def test_a_workflow_that_is_not_there_is_a_failure(command, start):
    for verb in ("show", "cancel", "retry"):
        code, _, errors = command("workflows", verb, "nope")
        assert code == 1
        assert "no workflow 'nope' is stored" in errors


def test_cancelling_counts_asks_and_can_be_tried(command, start, inspection):
    first, second = start(), start()

    code, _, errors = command("workflows", "cancel", first, second)
    assert code == 2
    assert "Cancel 2 workflows with 8 messages to go. Refused" in errors
    assert command("workflows", "cancel", first, "--dry-run")[0] == 0
    assert states(inspection) == ["running", "running"]

    code, output, _ = command("workflows", "cancel", first, second, first, "--yes")

    assert (code, output) == (0, "2 cancelled\n")
    assert states(inspection) == ["cancelled", "cancelled"]


def test_all_that_run_can_be_cancelled_and_then_retried(command, start, inspection):
    start(), start()

    assert command("workflows", "cancel", "--all", "--yes")[1] == "2 cancelled\n"
    code, output, errors = command("workflows", "cancel", "--all", "--yes")
    assert (code, output, errors) == (0, "", "There is nothing to cancel.\n")

    code, output, errors = command("workflows", "retry", "--all", "--yes")

    # None of the messages had been given up by a worker: they are still in their queue.
    assert (code, output) == (0, "0 started again\n")
    assert errors == "Retry what failed or was cancelled of 2 workflows.\n"
    assert states(inspection) == ["running", "running"]


def test_what_is_in_no_state_for_it_is_left_as_it_is(command, start, inspection):
    flow = start()

    code, output, errors = command("workflows", "retry", flow, "--yes")

    assert (code, output) == (0, "")
    assert f"Workflow {flow} is running: left as it is.\nThere is nothing to retry.\n" in errors


def test_a_part_can_be_cancelled_and_fails_what_it_is_part_of(command, start, inspection):
    flow = start()

    code, output, errors = command("workflows", "cancel", flow, "--node", "0.0.1", "--yes")

    assert (code, output) == (0, "1 cancelled\n")
    assert f"Cancel node 0.0.1 of workflow {flow}." in errors
    assert states(inspection) == ["failed"]
    assert "Cancelled: node 0.0.1 was cancelled" in command("workflows", "list")[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cancel", "--yes"], "name workflows by their ids, or all with --all"),
        (["cancel", "x", "--all", "--yes"], "name workflows by their ids, or all with --all"),
        (["retry", "--all", "--node", "0.1", "--yes"], "--node needs the id of the one workflow"),
    ],
)
def test_it_must_be_clear_what_is_meant(command, words, text):
    code, _, errors = command("workflows", *words)

    assert code == 2
    assert text in errors


@pytest.mark.parametrize("node", ["0.7", "left"])
def test_a_part_must_be_there(command, start, node):
    code, _, errors = command("workflows", "cancel", start(), "--node", node, "--yes")

    assert code == 2
    assert node in errors


def test_a_broker_that_cannot_keep_workflows_says_so(command, monkeypatch):
    dramatiq.set_broker(PlainBroker())

    code, _, errors = command("workflows", "list")

    assert code == 1
    assert "PlainBroker cannot keep workflows by itself" in errors


class PlainBroker(dramatiq.Broker):
    pass
