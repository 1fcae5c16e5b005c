"""What pages show, and what their forms do, without a browser."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

import dramatiq
from dramatiq.common import current_millis
from dramatiq.dashboard import NONE, READ_ONLY, Visitor
from dramatiq.dashboard.formats import ago
from dramatiq.history import Attempt, AttemptOutcome, History
from dramatiq.inspection import Selection, State
from dramatiq.testing.waiting import wait_until
from tests.dashboard.shop import SCRIPT

PATHS = [
    "/",
    "/queues",
    "/messages",
    "/failures",
    "/workflows",
    "/actors",
    "/workers",
    "/audit",
    "/settings",
]


def links_of(html):
    return re.findall(r'(?:href|action|src)="(/[^"]*)"', html)


def confirm(client, url):
    """Follow a link to a question, and return the fields of its form."""
    html = client.get(url.replace("&amp;", "&")).text
    return dict(re.findall(r'name="(\w+)"[^>]*value="([^"]*)"', html.split('method="post"')[-1]))


@pytest.mark.parametrize("root", ["", "/a/b"])
def test_all_links_lead_to_where_it_is_mounted(broker, bury, visit, root):
    (message,) = bury(broker, "ValueError: broken")
    client = visit(root_path=root)
    seen, left = set(), [root + path for path in PATHS]

    while left:
        url = left.pop()
        if url in seen or "/static/" in url or len(seen) > 120:
            continue
        seen.add(url)
        answer = client.get(url[len(root) :].replace("&amp;", "&"))
        assert answer.status_code == 200, url
        found = links_of(answer.text)
        assert all(link.startswith(f"{root}/") for link in found), url
        assert not any("//" in link.partition("?")[0] for link in found), url
        left += re.findall(r'href="(/[^"]*)"', answer.text)

    assert any(message.message_id in url for url in seen)


@pytest.mark.parametrize("path", [*PATHS, "/messages?state=dead", "/messages?state=finished"])
def test_part_of_a_page_is_given_to_those_who_poll(broker, bury, visit, path):
    bury(broker, "ValueError: broken")
    client = visit()

    answer = client.get(path, headers={"X-Fragment": "live"})

    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "<nav" not in answer.text


def test_what_has_not_changed_is_not_sent_again(visit):
    client = visit()
    first = client.get("/settings")

    second = client.get("/settings", headers={"If-None-Match": first.headers["etag"]})

    # The first answer brought the token that is in the second.
    third = client.get("/settings", headers={"If-None-Match": second.headers["etag"]})
    assert third.status_code == 304


def test_scripts_stay_text_wherever_they_appear(each_broker, bury, visit):
    each_broker.add_middleware(History())
    bury(
        each_broker, f"{SCRIPT}: {SCRIPT}", actor_name=SCRIPT, args=(SCRIPT,), traceback=SCRIPT,
        mine=SCRIPT,
    )  # fmt: skip
    now = current_millis()
    attempt = Attempt(
        SCRIPT, SCRIPT, "mail", AttemptOutcome.FAILED, 1, now, now, now, 1.0, SCRIPT, SCRIPT,
        SCRIPT, SCRIPT, SCRIPT,
    )  # fmt: skip
    each_broker.history.add([attempt], ttl=60_000, max_records=10)
    client = visit(each_broker, title=SCRIPT, environment=SCRIPT)
    (info,) = each_broker.inspection.messages(State.DEAD).items
    client.cookies.set("dramatiq_flash", "%3Cscript%3Ewindow.hacked%3C%2Fscript%3E")

    pages = [
        *PATHS,
        "/messages?state=dead&q=%3Cscript%3E",
        "/messages?state=finished",
        f"/messages/{info.message.message_id}?queue=mail&key={info.key}",
        f"/actors/{quote(SCRIPT, safe='')}",
        "/messages/%3Cscript%3Ewindow.hacked%3C%2Fscript%3E",
        f"/failures/confirm?action=delete&actor=%3Cscript%3E&until={info.died_at}",
    ]
    texts = [client.get(path).text for path in pages]

    assert not any("<script>window" in text or "<img src=x" in text for text in texts)
    assert "&lt;script&gt;window.hacked" in texts[3]


def test_an_actor_is_shown_with_its_own_attempts_and_failures(each_broker, visit):
    history = History()
    each_broker.add_middleware(history)
    now = current_millis()
    each_broker.history.add(
        [
            Attempt(f"{name}-{number}", name, "mail", outcome, 1, now, now, now, 5.0 * number, "{}",
                    exception, exception and "no answer")
            for name in ("a/b", "other")
            for number, (outcome, exception) in enumerate(
                [(AttemptOutcome.DONE, None), (AttemptOutcome.FAILED, f"{name}Error")], 1
            )
        ],
        ttl=60_000,
        max_records=10,
    )  # fmt: skip
    client = visit(each_broker)
    (link,) = re.findall(r'href="(/actors/a[^"]+)"', client.get("/actors").text)

    page = client.get(link).text
    found = client.get(f"/api/v1{link}").json()

    assert "50 %" in page
    assert "10 ms" in page
    assert page.count("a/bError") == 2
    assert "otherError" not in page
    assert ["a/b-2"] == [each["message_id"] for each in found["raised"]]
    assert ["a/b-2", "a/b-1"] == [each["message_id"] for each in found["latest"]]
    assert (1, 1) == tuple(
        sum(each[name] for each in found["minutes"]) for name in ("done", "failed")
    )
    assert client.get("/actors/nobody").status_code == 404
    assert client.get("/api/v1/actors/nobody").status_code == 404


# -- arguments


@pytest.fixture
def login(broker, bury):
    @dramatiq.actor(broker=broker, queue_name="mail", actor_name="login")
    def login(name, password, profile=None):
        pass

    bury(
        broker, "ValueError: broken", actor_name="login",
        args=("ada", "s3cr3t-1", {"x": [{"API_TOKEN": "s3cr3t-2"}], "big": 2**63 + 1}),
        session_cookie="s3cr3t-3", pipe_target={"args": ["s3cr3t-4"], "secret": "s3cr3t-5"},
    )  # fmt: skip
    (info,) = broker.inspection.messages(State.DEAD).items
    return f"/messages/{info.message.message_id}?queue=mail&key={info.key}"


def test_what_is_secret_is_never_shown(login, visit):
    client = visit()

    texts = [client.get(path).text for path in (login, "/messages?state=dead", "/queues/mail")]
    texts.append(client.get("/api/v1/messages?state=dead").text)
    texts.append(client.get(login.replace("/messages", "/api/v1/messages")).text)

    for text in texts:
        assert not re.findall(r"s3cr3t-[1235]", text)
        assert "ada" in text
    assert str(2**63 + 1) in texts[0]
    assert f"'big': {2**63 + 1}" in texts[-1]


def test_more_can_be_taken_out(login, visit):
    def redact(actor_name, name, value):
        return "somebody" if (actor_name, name) == ("login", "name") else value

    text = visit(redact=redact, secret_names=()).get(login).text

    assert "somebody" in text
    assert "ada" not in text
    assert "s3cr3t-1" in text


@pytest.mark.parametrize("recorded", [True, False])
def test_what_is_secret_is_not_shown_out_of_the_history_either(broker, visit, recorded):
    broker.add_middleware(History())
    dramatiq.actor(broker=broker, actor_name="login")(lambda name, password: None)
    told = '{"args":["ada","s3cr3t"],"kwargs":{"deep":[{"api_token":"s3cr3t"}]}}'
    told = told if recorded else told[:-9] + "…"
    now = current_millis()
    attempt = Attempt(
        "id-1", "login", "mail", AttemptOutcome.DONE, 1, now, now, now, 1.0, told
    )  # fmt: skip
    broker.history.add([attempt], ttl=60_000, max_records=10)
    client = visit()

    texts = [client.get("/messages/id-1").text, client.get("/api/v1/attempts").text]

    for text in texts:
        assert "s3cr3t" not in text
        assert ("ada" in text) is recorded


@pytest.mark.parametrize(
    "options",
    [
        {"hide_args": True},
        {"hide_args": None},  # nobody knows where this client is
        {"auth": lambda request: Visitor("eve", NONE)},
        {"auth": lambda request: Visitor("eve", READ_ONLY - {"view_args"})},
    ],
)
def test_arguments_are_hidden_from_who_may_not_see_them(login, visit, options):
    client = visit(**options)

    texts = [client.get(path).text for path in (login, "/messages?state=dead", "/queues/mail")]
    texts.append(client.get("/api/v1/messages?state=dead").text)
    texts.append(client.get(login.replace("/messages", "/api/v1/messages")).text)

    for text in texts:
        assert "login" in text
        assert "ada" not in text
        assert "s3cr3t" not in text
    assert "hidden from you" in texts[0]


# -- acting


def test_queues_are_paused_and_resumed(each_broker, visit):
    each_broker.declare_queue("mail")
    client = visit(each_broker)

    client.post("/queues/mail/pause", data={"next": "/queues"})
    assert each_broker.inspection.queue("mail").is_paused
    assert "Queue mail is paused" in client.get("/queues").text
    assert "Queue mail is paused" not in client.get("/queues").text  # told once
    client.post("/queues/mail/resume")

    assert not each_broker.inspection.queue("mail").is_paused
    log = [(entry.who, entry.verb, entry.what) for entry in each_broker.inspection.audit()]
    assert [("anybody", "resume", "queue mail"), ("anybody", "pause", "queue mail")] == log
    assert "queue mail" in client.get("/audit").text


def test_a_queue_is_purged_of_what_was_chosen(each_broker, bury, visit):
    bury(each_broker, "ValueError: broken")
    for _ in range(3):
        each_broker.actors["work"].send()
    client = visit(each_broker)
    page = client.get("/queues/mail/purge?state=ready").text
    assert "3 messages will be dropped" in page

    answer = client.post("/queues/mail/purge", data={"state": "ready", "count": "3"})

    assert answer.status_code == 303
    counts = each_broker.inspection.queue("mail").counts
    assert (counts.ready, counts.dead) == (0, 1)


def test_bulk_operations_act_on_what_the_page_showed(each_broker, bury, visit):
    bury(each_broker, "TimeoutError: a", "TimeoutError: b", "ValueError: c")
    bury(each_broker, "TimeoutError: d", actor_name="other")
    client = visit(each_broker)
    page = client.get("/failures").text
    (link,) = re.findall(
        r'href="(/failures/confirm\?action=requeue&amp;actor=work&amp;error=Time[^"]*)', page
    )
    newest = max(info.died_at for info in each_broker.inspection.messages(State.DEAD).items)
    wait_until(lambda: current_millis() > newest + 2)
    bury(each_broker, "TimeoutError: later")

    form = confirm(client, link)
    assert form["count"] == "2"
    answer = client.post("/failures/act", data=form)

    assert answer.status_code == 303
    left = sorted(info.reason for info in each_broker.inspection.messages(State.DEAD).items)
    assert left == ["TimeoutError: d", "TimeoutError: later", "ValueError: c"]
    assert each_broker.inspection.queue("mail").counts.ready == 2
    (entry,) = each_broker.inspection.audit()
    assert (entry.verb, entry.count) == ("requeue", 2)


def test_no_more_is_moved_than_was_counted(each_broker, bury, visit):
    bury(each_broker, *["ValueError: broken"] * 3)
    until = str(current_millis() + 60_000)

    visit(each_broker).post(
        "/failures/act", data={"action": "delete", "until": until, "count": "2"}
    )

    assert each_broker.inspection.count_dead(Selection()) == 1


@pytest.mark.parametrize(("typed", "status"), [("", 409), ("1000", 409), ("1,001", 303)])
def test_more_than_a_thousand_have_to_be_typed(broker, bury, visit, typed, status):
    bury(broker, *["ValueError: broken"] * 1001)
    client = visit()
    until = broker.inspection.messages(State.DEAD, limit=1).items[0].died_at
    form = confirm(client, f"/failures/confirm?action=delete&until={until}")
    assert 'name="typed"' in client.get(f"/failures/confirm?action=delete&until={until}").text

    answer = client.post("/failures/act", data=form | {"typed": typed})

    assert answer.status_code == status
    assert broker.inspection.count_dead(Selection()) == (0 if status == 303 else 1001)
    purged = client.post("/queues/mail/purge", data={"state": "dead", "count": "1001"})
    assert purged.status_code == 409


def test_chosen_dead_letters_are_requeued_or_deleted(each_broker, bury, visit):
    bury(each_broker, *["ValueError: broken"] * 4)
    client = visit(each_broker)
    page = client.get("/messages?state=dead").text
    names = re.findall(r'name="chosen" value="([^"]+)"', page)
    assert len(names) == 4

    client.post("/messages/act", data={"action": "requeue", "chosen": names[:2]})
    client.post("/messages/act", data={"only": f"delete {names[2]}"})
    gone = client.post("/messages/act", data={"only": f"requeue {names[2]}"})

    assert gone.status_code == 303
    assert "0 of 1 requeued" in client.get("/").text
    counts = each_broker.inspection.queue("mail").counts
    assert (counts.ready, counts.dead) == (2, 1)


def test_pages_go_on_where_the_one_before_ended(each_broker, visit):
    actor = dramatiq.actor(broker=each_broker, actor_name="work", queue_name="mail")(print)
    sent = {actor.send(number).message_id for number in range(55)}
    client = visit(each_broker)

    first = client.get("/messages?queue=mail")
    (url,) = re.findall(r'rel="next" href="([^"]+)"', first.text)
    second = client.get(url.replace("&amp;", "&"))

    seen = re.findall(r'title="([0-9a-f-]{36})"', first.text + second.text)
    assert sent == set(seen)
    assert len(seen) == 55
    assert 'rel="next"' not in second.text


def test_an_id_is_not_looked_for_among_many_unless_one_insists(broker, visit, monkeypatch):
    monkeypatch.setattr("dramatiq.dashboard.messages.FIND_LIMIT", 2)
    actor = dramatiq.actor(broker=broker, actor_name="work")(print)
    sent = [actor.send(number) for number in range(3)][1]
    client = visit()

    page = client.get(f"/messages/{sent.message_id}").text
    (url,) = re.findall(r'href="([^"]*search=all[^"]*)"', page)

    assert "work.send(1)" in client.get(url).text
    assert not client.get(f"/api/v1/messages/{sent.message_id}").json()["is_complete"]


def test_what_cannot_be_decoded_is_shown_as_it_is(broker, visit):
    broker.declare_queue("mail")
    broker.queues["mail"].put(b"\xff<script>")
    client = visit()

    page = client.get("/messages?queue=mail").text
    (url,) = re.findall(r'data-open href="([^"]+)"', page)

    assert "\\xff&lt;script&gt;" in client.get(url.replace("&amp;", "&")).text


def test_settings_are_kept_in_a_cookie(visit):
    client = visit()

    client.post("/settings", data={"theme": "dark", "density": "compact", "refresh": "15"})
    page = client.get("/").text

    assert 'data-theme="dark" data-density="compact"' in page
    assert 'data-refresh="15"' in page
    client.post("/settings", data={"theme": 'x"><script>', "refresh": "-1"})
    assert 'data-theme="auto"' in client.get("/").text


def test_without_history_pages_say_how_to_turn_it_on(visit):
    client = visit()

    for path in ("/", "/actors", "/messages?state=finished"):
        assert "broker.add_middleware(dramatiq.history.History())" in client.get(path).text


def test_moments_are_told_by_how_long_ago_they_were():
    assert ["just now", "5 s ago", "2m 5s ago", "in 1h", "–"] == [
        ago(moment, 10_000_000) for moment in (9_999_900, 9_994_500, 9_875_000, 13_600_000, None)
    ]
