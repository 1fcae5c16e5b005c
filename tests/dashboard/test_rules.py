"""Who is let in, who may do what, and what other sites' pages can do: nothing."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

import dramatiq
from dramatiq import group
from dramatiq.dashboard import (
    ALL,
    NONE,
    OPERATOR,
    READ_ONLY,
    DashboardApp,
    Visitor,
    api,
    basic_auth,
    views,
)
from dramatiq.dashboard.access import VERBS
from dramatiq.inspection import Selection, State

PAGES = [
    page
    for page in (*views.pages(), *api.PAGES)
    if page.method == "GET" and "{" not in page.path and "confirm" not in page.path
]
#: Every request that changes queues or messages, with its verb.
ACTIONS = [
    ("/queues/mail/pause", {}, "pause_queue"),
    ("/queues/mail/resume", {}, "pause_queue"),
    ("/queues/mail/purge", {"state": "ready", "count": "1"}, "purge_queue"),
    ("/messages/act", {"only": "requeue mail:1"}, "retry"),
    ("/messages/act", {"only": "delete mail:1"}, "delete"),
    ("/failures/act", {"action": "requeue", "until": "9999999999999", "count": "1"}, "retry"),
    ("/failures/act", {"action": "delete", "until": "9999999999999", "count": "1"}, "delete"),
    ("/workflows/flow-1/cancel", {}, "cancel_workflow"),
    ("/workflows/flow-1/cancel", {"node": "0.0"}, "cancel_workflow"),
    ("/workflows/flow-1/retry", {}, "retry_workflow"),
    ("/api/v1/workflows/flow-1/cancel", {}, "cancel_workflow"),
    ("/api/v1/workflows/flow-1/retry", {}, "retry_workflow"),
    ("/api/v1/queues/mail/pause", {}, "pause_queue"),
    ("/api/v1/queues/mail/resume", {}, "pause_queue"),
    ("/api/v1/queues/mail/purge", {"state": "ready", "count": "1"}, "purge_queue"),
    ("/api/v1/failures/requeue", {"until": "9999999999999", "count": "1"}, "retry"),
    ("/api/v1/failures/delete", {"until": "9999999999999", "count": "1"}, "delete"),
]


@pytest.fixture
def stocked(broker, bury, monkeypatch):
    """The broker with a dead letter, a message that is ready and a workflow that runs."""
    bury(broker, "ValueError: broken", args=("anything",))
    broker.actors["work"].send("ready")
    monkeypatch.setattr("dramatiq.workflows.engine.generate_unique_id", lambda: "flow-1")
    step = dramatiq.actor(broker=broker, actor_name="step", queue_name="flows")(print)
    dramatiq.set_broker(broker)
    (group([step.message(), step.message()]) | step.message()).run()
    return broker


def state_of(broker):
    info = broker.inspection.queue("mail")
    tree = broker.inspection.workflow_tree("flow-1")
    return info.is_paused, info.counts, broker.inspection.workflow("flow-1"), tree


# -- being let in


@pytest.mark.parametrize("path", [page.path for page in PAGES] + ["/nothing/here"])
def test_it_is_closed_until_it_is_told_who_may_see_it(broker, path):
    answer = TestClient(DashboardApp(broker)).get(path)

    assert answer.status_code == 403
    assert "app = DashboardApp(broker, auth=auth)" in answer.text
    assert "auth=None" in answer.text


def test_without_auth_nothing_is_done_either(stocked):
    client = TestClient(DashboardApp(stocked), headers={"Sec-Fetch-Site": "same-origin"})
    before = state_of(stocked)

    statuses = {client.post(path, data=form).status_code for path, form, _ in ACTIONS}

    assert statuses == {403}
    assert state_of(stocked) == before


def test_whoever_auth_returns_none_for_is_turned_away(visit):
    client = visit(auth=lambda request: request.headers.get("x-user"))

    assert client.get("/").status_code == 403
    assert client.get("/", headers={"x-user": "ada"}).status_code == 200


def test_auth_may_be_a_coroutine_function(visit):
    async def auth(request):
        return Visitor("ada", READ_ONLY)

    assert ">ada<" in visit(auth=auth).get("/").text


@pytest.mark.parametrize("answer", [True, "", 1, {"name": "ada"}])
def test_an_auth_that_does_not_say_who_it_is_is_a_mistake(visit, answer):
    with pytest.raises(TypeError, match="auth returned"):
        visit(auth=lambda request: answer).get("/")


def test_passwords_are_asked_for(visit):
    client = visit(auth=basic_auth({"ada": "right"}, verbs={"ada": OPERATOR}))

    asked = client.get("/")
    assert (asked.status_code, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    for pair in [("ada", "wrong"), ("bob", "right"), ("ada", ""), ("", "")]:
        assert client.get("/", auth=pair).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic !"}).status_code == 401
    assert client.get("/", auth=("ada", "right")).status_code == 200


def test_health_is_told_to_anybody(broker):
    answer = TestClient(DashboardApp(broker)).get("/healthz")

    assert (answer.status_code, answer.text) == (200, "ok\n")


# -- verbs


@pytest.mark.parametrize("verbs", [NONE, READ_ONLY])
def test_who_may_only_look_changes_nothing(stocked, visit, verbs):
    client = visit(auth=lambda request: Visitor("eve", verbs))
    before = state_of(stocked)

    answers = [client.post(path, data=form) for path, form, _ in ACTIONS]

    assert {answer.status_code for answer in answers} == {403}
    assert state_of(stocked) == before
    pages = ("/queues", "/messages?state=dead", "/failures", "/workflows/flow-1?view=table")
    for page in pages:
        offered = re.findall(
            r"<button[^>]*name=\"(?:only|action)\"|/pause|/purge|/cancel|/retry",
            client.get(page).text,
        )
        assert offered == []


@pytest.mark.parametrize(("path", "form", "verb"), ACTIONS)
def test_each_action_is_refused_to_who_lacks_its_verb_alone(stocked, visit, path, form, verb):
    client = visit(auth=lambda request: Visitor("eve", VERBS - {verb}))
    before = state_of(stocked)

    answer = client.post(path, data=form)

    assert answer.status_code == 403
    assert verb in answer.text
    assert state_of(stocked) == before


@pytest.mark.parametrize(("path", "form", "verb"), ACTIONS)
def test_each_action_is_allowed_by_its_verb_alone(stocked, visit, path, form, verb):
    client = visit(auth=lambda request: Visitor("eve", frozenset({verb})))

    assert client.post(path, data=form).status_code in {200, 303}
    (entry, *_) = stocked.inspection.audit() or [None]
    if entry is not None:
        assert entry.who == "eve"


def test_operators_drop_nothing():
    assert OPERATOR == ALL - {"delete", "purge_queue", "edit", "edit_schedule"}


def test_a_verb_that_does_not_exist_is_a_mistake():
    with pytest.raises(ValueError, match="'destroy'"):
        Visitor("ada", frozenset({"destroy"}))


# -- only POST, and only from here


@pytest.mark.parametrize(("path", "form", "verb"), ACTIONS)
def test_only_post_changes_anything(stocked, visit, path, form, verb):
    client = visit()
    before = state_of(stocked)

    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        client.request(method, path, params=form)

    assert state_of(stocked) == before
    assert stocked.inspection.audit() == []


@pytest.mark.parametrize(
    ("headers", "is_done"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, False),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
        ({"X-CSRF-Token": "guessed"}, False),
        ({"X-CSRF-Token": "same", "Cookie": "dramatiq_csrf=same"}, True),
        ({"X-CSRF-Token": "", "Cookie": "dramatiq_csrf="}, False),
    ],
)
def test_only_pages_of_the_dashboard_change_anything(stocked, headers, is_done):
    client = TestClient(DashboardApp(stocked, auth=None), follow_redirects=False)

    for path in ("/queues/mail/pause", "/api/v1/queues/mail/pause"):
        answer = client.post(path, headers=headers)
        assert (answer.status_code in {200, 303}) is is_done

    assert stocked.inspection.queue("mail").is_paused is is_done


def test_the_token_of_the_form_is_enough_for_browsers_that_tell_nothing(stocked):
    client = TestClient(DashboardApp(stocked, auth=None), follow_redirects=False)
    page = client.get("/queues").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]

    client.post("/queues/mail/pause", data={"csrf_token": token})

    assert stocked.inspection.queue("mail").is_paused


# -- what is sent along


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/api/v1/queues", "/healthz", "/no"])
def test_nothing_inline_may_run(visit, path):
    answer = visit().get(path)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        *(page.path for page in PAGES if "/api/" not in page.path),
        *(f"/workflows/flow-1?view={view}" for view in ("graph", "table", "mermaid")),
    ],
)
def test_no_page_has_anything_inline(stocked, visit, path):
    html = visit().get(path).text

    assert re.findall(r"\sstyle=|<style|\son\w+=|javascript:", html) == []
    assert re.findall(r"<script(?![^>]*\ssrc=)[^>]*>", html) == []


def test_what_a_broker_cannot_do_is_said(visit, stocked, monkeypatch):
    inspection = type(stocked.inspection)
    for name in ("workers", "note", "audit"):
        monkeypatch.setattr(inspection, name, lambda self, *_, **__: self._refuse())

    def refuse(self):
        raise self._unsupported("this")

    monkeypatch.setattr(inspection, "_refuse", refuse, raising=False)
    client = visit()

    assert "does not support" in client.get("/workers").text
    assert "does not support" in client.get("/audit").text
    assert client.get("/api/v1/workers").status_code == 501
    assert client.post("/queues/mail/pause").status_code == 303
    assert stocked.inspection.queue("mail").is_paused


def test_a_broker_out_of_reach_is_told_as_such(redis_server):
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url="redis://127.0.0.1:1", socket_connect_timeout=0.5)
    client = TestClient(DashboardApp(broker, auth=None))

    assert client.get("/queues").status_code == 503
    assert "cannot be reached" in client.get("/queues").text
    assert client.get("/api/v1/queues").status_code == 503
    assert client.get("/healthz").status_code == 503
    broker.close()


def test_a_large_form_is_refused(visit):
    assert visit().post("/settings", content=b"x" * 300_000).status_code == 413


def test_what_makes_no_sense_is_a_bad_request(visit, stocked):
    client = visit()

    assert client.get("/messages?state=odd").status_code == 400
    assert client.get("/messages?cursor=odd").status_code == 400
    assert client.get("/failures/confirm?action=requeue").status_code == 400
    assert client.get("/failures/confirm?action=odd&until=1").status_code == 400
    assert client.get("/api/v1/messages?state=odd").status_code == 400
    assert client.post("/failures/act", data={"action": "requeue", "count": "1"}).status_code == 400
    assert client.post("/failures/act", data={"action": "delete", "until": "1"}).status_code == 409
    assert client.get("/messages/unheard-of").status_code == 404


def test_nothing_leads_elsewhere_after_an_action(visit, stocked):
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nX: 1"):
        answer = visit().post("/queues/mail/pause", data={"next": target})
        assert answer.headers["location"] == "/queues"

    answer = visit().post("/queues/mail/pause", data={"next": "/queues/mail?x=1"})
    assert answer.headers["location"] == "/queues/mail?x=1"


def test_bulk_operations_need_a_moment_until_which_they_act(stocked):
    from dramatiq.dashboard.acting import Actions

    actions = Actions(DashboardApp(stocked, auth=None).desk, Visitor("ada"))

    with pytest.raises(ValueError, match="until when"):
        actions.act_on_dead("delete", Selection())
    assert len(stocked.inspection.messages(State.DEAD).items) == 1
