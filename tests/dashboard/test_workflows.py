"""Pages of workflows: what they show, at what cost, and what their buttons do."""

from __future__ import annotations

import re

import pytest

import dramatiq
from dramatiq import group
from dramatiq.dashboard import Visitor, api, graphs
from dramatiq.dashboard.workflows import outline
from dramatiq.inspection import State
from dramatiq.testing.waiting import wait_until
from dramatiq.workflows.tree import WorkflowNode
from tests.dashboard.shop import SCRIPT


class Mill:
    """Actors for workflows, and a worker once it is needed."""

    def __init__(self, broker):
        self.broker = broker
        self.is_mended = False

        @dramatiq.actor(broker=broker, queue_name="mill")
        def grind(*grain):
            return 1

        @dramatiq.actor(broker=broker, queue_name="mill", max_retries=0, actor_name=SCRIPT)
        def jam(*grain):
            if not self.is_mended:
                raise ValueError(SCRIPT)

        self.grind, self.jam = grind, jam
        self.worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=1)

    def run(self, composed):
        """Start a workflow; return its id."""
        before = self.known()
        composed.run()
        (flow,) = self.known() - before  # not the newest: two may have the same millisecond
        return flow

    def known(self):
        return {flow.workflow_id for flow in self.broker.inspection.workflows()[0]}

    def wait_for(self, flow, state):
        wait_until(lambda: self.broker.inspection.workflow(flow).state.value == state)


@pytest.fixture
def mill(each_broker):
    dramatiq.set_broker(each_broker)  # that of groups
    mill = Mill(each_broker)
    yield mill
    mill.worker.stop()


def test_a_workflow_that_fails_is_shown_retried_and_done(mill, visit):
    doomed = group([mill.grind.message(), mill.jam.message()]) | mill.grind.message()
    flow = mill.run(doomed)
    client = visit(mill.broker)
    mill.worker.start()
    mill.wait_for(flow, "failed")

    listed = client.get("/workflows").text
    shown = [
        client.get(f"/workflows/{flow}?view={view}").text for view in ("graph", "table", "mermaid")
    ]

    assert "2 × (grind, &lt;script&gt;" in listed
    assert all("ValueError" in text for text in [listed, *shown])
    assert not any("<script>window" in text or "<img src=x" in text for text in [listed, *shown])
    for text in shown[:2]:
        assert re.findall(r"\sstyle=|<style", text) == []
    assert "node-failed" in shown[0]
    assert 'aria-label="Retry part 0.0.1"' in shown[1]
    assert "flowchart LR" in shown[2]
    wait_until(lambda: mill.broker.inspection.queue("mill").counts.dead == 1)
    mill.is_mended = True
    client.post(f"/workflows/{flow}/retry", data={"node": "0.0.1", "next": f"/workflows/{flow}"})
    assert "1 message started again" in client.get(f"/workflows/{flow}").text
    mill.wait_for(flow, "done")
    log = client.get("/api/v1/audit").json()["entries"]
    assert ("retry", f"part 0.0.1 of workflow {flow}", 1) == (
        log[0]["verb"], log[0]["what"], log[0]["count"],
    )  # fmt: skip


def test_a_message_leads_to_its_workflow_which_can_be_cancelled(mill, visit):
    flow = mill.run(group([mill.grind.message(), mill.grind.message()]) | mill.grind.message())
    client = visit(mill.broker)
    [info, *_] = mill.broker.inspection.messages(State.READY).items
    message_id = info.message.message_id

    detail = client.get(f"/messages/{message_id}").text
    (url,) = set(re.findall(r'href="(/workflows/[^"]+)"', detail))
    api_detail = client.get(f"{api.ROOT}/messages/{message_id}").json()
    part = client.post(f"{api.ROOT}/workflows/{flow}/cancel", data={"node": "0.0.0"}).json()
    page = client.get(f"{url}?view=table").text
    client.post(f"{url}/cancel")

    assert f"/messages/{message_id}" in client.get(url).text
    assert {"workflow_id": flow, "node_id": "0.0.0"} == api_detail["stored"][0]["workflow"]
    assert part == {"is_cancelled": True}
    assert "Retry part 0.0.0" in page
    assert client.post(f"{api.ROOT}/workflows/{flow}/cancel").json() == {"is_cancelled": False}
    assert "chip-failed" in client.get("/workflows").text


def test_a_part_that_is_not_there_is_refused_and_nothing_is_done(mill, visit):
    flow = mill.run(group([mill.grind.message()]) | mill.grind.message())
    client = visit(mill.broker)
    before = client.get(f"{api.ROOT}/workflows/{flow}").json()

    for node in ("0.7", "0.0.7", "0.0.0.5", "odd", "0.x"):
        for action in ("cancel", "retry"):
            answer = client.post(f"/workflows/{flow}/{action}", data={"node": node})
            assert answer.status_code == 400, (node, action)

    assert client.get(f"{api.ROOT}/workflows/{flow}").json() == before
    assert mill.broker.workflows.store.cancelled() == set()
    assert client.get(f"/workflows/{flow}?node=0.7").status_code == 200
    assert client.get(f"{api.ROOT}/workflows/{flow}?node=0.7").status_code == 404
    assert client.get(f"/workflows/{flow}?view=odd").status_code == 400
    assert client.get("/workflows?cursor=odd").status_code == 400


def test_what_is_not_there_any_more_is_said(visit):
    client = visit()

    page = client.get("/workflows/%3Cscript%3E")

    assert (page.status_code, "no such workflow" in page.text) == (404, True)
    assert "<script>" not in page.text.partition("<main")[2]
    assert client.get(f"{api.ROOT}/workflows/gone").status_code == 404
    assert client.post(f"{api.ROOT}/workflows/gone/retry").status_code == 404
    assert client.post("/workflows/gone/retry").status_code == 303
    assert client.post("/workflows/gone/cancel").status_code == 303
    assert client.get(f"{api.ROOT}/audit").json()["entries"] == []


def test_of_large_groups_the_first_are_shown_and_all_are_counted(mill, visit):
    rows = [group([mill.grind.message() for _ in range(150)]) for _ in range(4)]
    flow = mill.run(group([*rows, mill.grind.message()]) | mill.grind.message())
    client = visit(mill.broker)

    table = client.get(f"/workflows/{flow}?view=table").text
    tree = client.get(f"{api.ROOT}/workflows/{flow}").json()["tree"]
    part = client.get(f"/workflows/{flow}?view=table&node=0.0.3").text

    sizes = [len(each["children"]) for each in tree["children"][0]["children"]]
    assert [sizes[0], sizes[4]] == [73, 0]
    assert 250 < sum(sizes) <= 300
    assert "77 more of" in table
    assert table.count("data-row") == 1 + 2 + 5 + sum(sizes)
    assert "300 in all" in table
    assert part.count("data-row") == 101
    assert "50 more of" in part
    assert client.get(f"/workflows/{flow}").text.count("<rect class=") == 3
    assert client.get(f"{api.ROOT}/workflows").json()["items"][0]["total"] == 602


def test_pages_of_workflows_follow_one_another(mill, visit, monkeypatch):
    monkeypatch.setattr("dramatiq.dashboard.workflows.PAGE", 2)
    flows = [mill.run(group([mill.grind.message()]) | mill.grind.message()) for _ in range(3)]
    client = visit(mill.broker)

    first = client.get("/workflows").text
    (url,) = re.findall(r'rel="next" href="([^"]+)"', first)
    second = client.get(url).text

    assert set(flows) == set(re.findall(r'title="([0-9a-f-]{36})"', first + second))


def test_who_may_only_cancel_is_offered_only_that(mill, visit):
    flow = mill.run(group([mill.grind.message()]) | mill.jam.message())
    client = visit(mill.broker, auth=lambda request: Visitor("eve", frozenset({"cancel_workflow"})))

    page = client.get(f"/workflows/{flow}?view=table").text

    assert "Cancel the workflow" in page
    client.post(f"/workflows/{flow}/cancel")
    assert "Retry" not in client.get(f"/workflows/{flow}?view=table").text
    assert client.post(f"/workflows/{flow}/retry").status_code == 403


def test_a_broker_that_has_nowhere_to_keep_workflows_says_so(broker, visit, monkeypatch):
    monkeypatch.setattr(type(broker), "make_workflow_store", lambda self: None)
    client = visit()

    for path in ("/workflows", "/workflows/any"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "StubBroker has nowhere to keep workflows: add a result backend" in answer.text
    assert client.get(f"{api.ROOT}/workflows").status_code == 501
    assert client.post("/workflows/any/cancel").status_code == 501


def test_a_graph_draws_chains_as_arrows_and_groups_as_frames():
    def message(node_id):
        return WorkflowNode(node_id, "message", "done", actor_name="work", message_id=node_id)

    many = [message(f"0.1.{number}") for number in range(40)]
    box = WorkflowNode("0.1", "group", "running", size=1000, settled=7, children=many)
    empty = WorkflowNode("0.2", "group", "waiting")
    tree = WorkflowNode(
        "0", "chain", "running", size=4, children=[message("0.0"), box, empty, message("0.3")]
    )

    svg = graphs.draw_workflow(tree, lambda name: f"/m/{name}")

    assert svg.count('class="tip"') == 3
    assert svg.count("<a href=") == 2 + graphs.MOST_DRAWN
    assert "988 more" in svg
    assert "7 of 1,000" in svg
    assert "0 children" in svg
    assert svg.startswith('<svg class="graph" width="840"')


def test_a_line_tells_what_a_workflow_is_made_of():
    def message(name):
        return WorkflowNode("0", "message", "done", actor_name=name)

    def of(kind, *children, size=None):
        size = len(children) if size is None else size
        return WorkflowNode("0", kind, "done", size=size, children=list(children))

    resize, load, end = map(message, ("resize", "load", "end"))
    mixed = of("group", of("chain", load, resize), end)

    assert "load → 9 × resize → end" == outline(of("chain", load, of("group", resize, size=9), end))
    assert "2 × (load → resize, end)" == outline(mixed)
    assert "2 × (2 × (load → resize, end), …)" == outline(of("group", mixed, size=2))
    assert "load → 2 more" == outline(of("chain", load, size=3))
    assert "group of 1,000" == outline(of("group", size=1000))


@pytest.mark.parametrize(
    ("figures", "widths"), [((1, 1, 4), ["25.00", "25.00"]), ((4, 1, 4), ["100.00", "0.00"])]
)
def test_a_bar_shows_what_is_done_and_what_failed_and_is_never_too_long(figures, widths):
    bar = graphs.draw_progress(*figures)

    assert widths == re.findall(r'bar-\w+"[^>]* width="([\d.]+)"', bar)


@pytest.mark.parametrize("place", [3, ["alone"]])
def test_a_foreign_option_that_is_called_like_ours_is_no_workflow(broker, visit, place):
    work = dramatiq.actor(broker=broker, actor_name="work")(print)
    sent = work.send_with_options(workflow_place=place)

    detail = visit().get(f"{api.ROOT}/messages/{sent.message_id}").json()

    assert detail["stored"][0]["workflow"] is None
