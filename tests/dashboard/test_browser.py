"""The dashboard in a real browser, on real stores, with a live worker behind it.

`make pictures` has the pages' pictures in the documentation made anew.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.dashboard import DashboardApp, Visitor
from dramatiq.dashboard.access import VERBS
from dramatiq.inspection import Selection, State
from dramatiq.testing.waiting import wait_until
from tests.dashboard.shop import SCRIPT, Shop, serve

#: Dozens of pages are opened by a browser that shares the machine.
pytestmark = pytest.mark.timeout(150)
#: What is violated if a page does.
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Whether the pictures are made anew; then the shop has nothing hostile in it.
IS_FILMED = "DRAMATIQ_SCREENSHOTS" in os.environ
#: For what no store makes a difference to.
on_one_store = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/images/dashboard"
#: Replaces what tells of the machine that makes the pictures.
FORGET = """names => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        for (const [name, other] of Object.entries(names)) {
            walker.currentNode.data = walker.currentNode.data.replaceAll(name, other);
        }
    }
}"""


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if path is None:
        pytest.fail("chromium is missing: install Debian's package chromium", pytrace=False)
    # Here alone: while it runs, this thread counts as one with an event loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def shop(request, tmp_path_factory):
    """A shop whose pages are all filled."""
    directory = tmp_path_factory.mktemp("shop")
    if request.param == "sqlite":
        broker = SQLiteBroker(directory / "dramatiq.db")
    else:
        server = request.getfixturevalue("redis_server")
        broker = RedisBroker(url=f"redis://127.0.0.1:{server.port}", namespace=directory.name)
    shop = Shop(broker, is_hostile=not IS_FILMED)
    shop.seed_history()
    shop.fill()
    app = DashboardApp(broker, auth=None, title="Shop", environment="staging")
    with serve(app, "/a/b") as shop.url:
        yield shop
    shop.close()


@pytest.fixture
def page(chromium, shop):
    """A tab whose scripts must not fail; nothing that is shown may run."""
    context = chromium.new_context(base_url=f"{shop.url}/", viewport={"width": 1280, "height": 860})
    context.set_default_timeout(10_000)
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("dialog", lambda dialog: problems.append("a dialog"))
    yield page
    assert page.evaluate("window.hacked") is None
    assert problems == []
    context.close()


def pages_of(shop):
    """Return the address of each page, by the name of its picture."""
    letter = shop.dead(actor_name="send_invoice")[0]
    one = f"?queue={letter.queue_name}&key={letter.key}"
    flows = {flow.state.value: flow.workflow_id for flow in shop.inspection.workflows()[0]}
    return {
        "overview": "",
        "queues": "queues",
        "queue": "queues/mail",
        "purge": "queues/images/purge",
        "messages": "messages?state=dead",
        "finished": "messages?state=finished",
        "message": f"messages/{letter.message.message_id}{one}",
        "failures": "failures",
        "confirm": f"failures/confirm?action=requeue&error=TimeoutError&until={letter.died_at}",
        "workflows": "workflows",
        "workflow": f"workflows/{flows['failed']}",
        "workflow-table": f"workflows/{flows['running']}?view=table",
        "workflow-mermaid": f"workflows/{flows['done']}?view=mermaid",
        "actors": "actors",
        "actor": "actors/import_feed",
        "workers": "workers",
        "audit": "audit",
        "settings": "settings",
    }


def test_every_page_is_accessible_in_light_and_dark(page, shop):
    # Pages are the same whatever the store, so each theme is looked at once.
    themes = {"SQLiteBroker": ["light"], "RedisBroker": ["dark"]}[type(shop.broker).__name__]
    is_filmed = IS_FILMED and "light" in themes
    for theme in ("light", "dark") if is_filmed else themes:
        page.emulate_media(color_scheme=theme)
        for name, path in pages_of(shop).items():
            page.goto(path)
            found = Axe().run(page, options={"runOnly": WCAG})
            assert found.violations_count == 0, f"{name}, {theme}: {found.generate_report()}"
            if is_filmed:
                page.evaluate(FORGET, {str(ROOT): "/srv/shop", socket.gethostname(): "web-1"})
                page.screenshot(path=PICTURES / f"{name}-{theme}.png", full_page=True)


STICKING_OUT = """
[...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > innerWidth)
    .filter(each => !each.closest(".chart-scroll, .table-scroll, .code, .side ul"))
    .map(each => `${each.outerHTML.slice(0, 120)} ${each.getBoundingClientRect().right}`)
"""


@on_one_store
def test_no_page_scrolls_sideways_on_small_screens(page, shop):
    page.set_viewport_size({"width": 320, "height": 640})
    for name, path in pages_of(shop).items():
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        # What sticks out and is in no box that scrolls by itself.
        culprits = page.evaluate(STICKING_OUT) if wide > 0 else []
        assert wide <= 0, (name, culprits)


def test_scripts_in_messages_stay_text(page, shop):
    (letter,) = shop.dead(actor_name=SCRIPT)
    page.goto(f"messages/{letter.message.message_id}")
    expect(page.locator("pre.tall").first).to_contain_text("<script>window.hacked")
    expect(page.locator("dd").filter(has_text="<script>").first).to_be_visible()

    for path in ("", "failures", "messages?state=dead", "actors", "messages?state=finished"):
        page.goto(path)
        expect(page.get_by_text("<script>window.hacked").first).to_be_visible()


def test_a_queue_is_paused_and_resumed(page, shop):
    page.goto("queues")

    page.get_by_role("button", name="Pause queue feeds").click()
    expect(page.get_by_text("Queue feeds is paused")).to_be_visible()
    assert shop.inspection.queue("feeds").is_paused
    page.get_by_role("button", name="Resume queue feeds").click()

    expect(page.get_by_text("Queue feeds is resumed")).to_be_visible()
    assert not shop.inspection.queue("feeds").is_paused
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text("resume")


def test_what_a_worker_runs_is_shown_with_its_message(page, shop):
    page.goto("workers")

    row = page.get_by_role("row").filter(has_text="crawl")
    expect(row).to_contain_text("feeds")
    row.get_by_role("link").click()

    (held,) = shop.inspection.messages(State.LEASED, Selection("feeds")).items
    expect(page.get_by_role("heading", level=1)).to_have_text(held.message.message_id)
    expect(page.get_by_role("heading", level=2).first).to_contain_text("leased")
    expect(page.get_by_text("'https://shop.example.com'").first).to_be_visible()


def test_a_page_follows_what_happens_unless_it_is_being_read(page, shop):
    page.context.add_cookies(
        [{"name": "dramatiq_settings", "value": "auto.comfortable.2", "url": shop.url}]
    )
    page.goto("messages?state=dead")
    rows = page.locator("tbody tr")
    before = rows.count()
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    page.locator("tbody input").first.check()
    expect(page.locator("[data-chosen]")).to_have_text("1 chosen:")
    shop.actors["send_invoice"].send(300)
    wait_until(lambda: shop.count_dead() == before + 1)
    page.wait_for_timeout(2_500)
    assert asked == []  # a row is chosen
    expect(rows).to_have_count(before)

    page.locator("tbody input").first.uncheck()
    expect(rows).to_have_count(before + 1)
    expect(page.get_by_role("status").first).to_contain_text("Updated")
    page.get_by_role("button", name="Pause updates").click()
    expect(page.get_by_role("status").first).to_have_text("Updates are paused")


@on_one_store
def test_the_chart_can_be_read_as_a_table_that_stays_open(page, shop):
    page.context.add_cookies(
        [{"name": "dramatiq_settings", "value": "auto.comfortable.2", "url": shop.url}]
    )
    page.goto("")
    page.get_by_text("Show as table").click()
    table = page.get_by_role("table", name="Attempts per minute, the newest first")
    expect(table.get_by_role("row")).to_have_count(61)

    with page.expect_response(lambda answer: answer.url.endswith("/a/b/")):
        pass

    expect(table).to_be_visible()


def test_keys_move_through_rows_and_requeue(page, shop):
    page.goto("messages?state=dead&actor=send_invoice")
    dead = shop.count_dead(actor_name="send_invoice")
    shop.is_mended = True

    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Message id")).to_be_focused()
    page.keyboard.press("j")  # typed, for once
    expect(page.get_by_role("searchbox", name="Message id")).to_have_value("j")
    page.locator("main").focus()
    for key in ("j", "j", "k"):
        page.keyboard.press(key)
    expect(page.locator("tr.is-current")).to_have_count(1)
    page.keyboard.press("r")

    expect(page.get_by_text("1 of 1 requeued")).to_be_visible()
    wait_until(lambda: shop.count_dead(actor_name="send_invoice") == dead - 1)


def test_a_group_of_failures_is_requeued_through_a_dialog_and_runs(page, shop):
    shop.is_mended = True
    page.goto("failures")

    page.get_by_role("link", name="Requeue TimeoutError of send_invoice").click()
    dialog = page.get_by_role("dialog", name="Confirm")
    count = shop.count_dead(actor_name="send_invoice")
    expect(dialog).to_contain_text(f"Requeue {count} dead letters")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("link", name="Requeue TimeoutError of send_invoice").click()
    dialog.get_by_role("button", name=f"Requeue {count}").click()

    expect(page.get_by_text(f"{count} dead letters for actor send_invoice")).to_be_visible()
    wait_until(lambda: shop.count_dead(actor_name="send_invoice") == 0)
    wait_until(lambda: shop.inspection.queue("mail").counts.ready == 0)


def test_a_dead_letter_is_deleted_from_its_page(page, shop):
    (letter,) = shop.dead(actor_name="import_feed")
    page.goto(f"messages/{letter.message.message_id}")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()

    page.get_by_role("button", name="Delete").click()

    expect(page.get_by_text("1 of 1 deleted")).to_be_visible()
    assert shop.dead(actor_name="import_feed") == []
    page.goto(f"messages/{letter.message.message_id}")
    expect(page.get_by_role("heading", name="Attempts")).to_be_visible()


def test_a_queue_is_purged_through_a_dialog(page, shop):
    page.goto("queues")

    page.get_by_role("link", name="Purge queue images").click()
    dialog = page.get_by_role("dialog", name="Confirm")
    dialog.get_by_label("delayed").check()
    dialog.get_by_role("button", name="Count again").click()
    ready = shop.inspection.queue("images").counts.ready
    dialog.get_by_role("button", name=f"Drop {ready} messages").click()

    expect(page.get_by_text(f"{ready} messages of queue images were dropped")).to_be_visible()
    assert shop.inspection.queue("images").counts.ready == 0


def test_workflows_are_mended_and_cancelled(page, shop):
    flows = {flow.state.value: flow for flow in shop.inspection.workflows()[0]}
    failed, running = flows["failed"], flows["running"]
    page.goto(f"workflows/{failed.workflow_id}")
    expect(page.get_by_role("link", name="send_report")).to_be_visible()
    expect(page.locator(".node-name").filter(has_text="<script>").first).to_be_visible()

    page.get_by_role("link", name="Show as table").click()
    shop.is_mended = True
    page.get_by_role("button", name="Retry part 0.1.1.1", exact=True).click()
    expect(page.get_by_text("1 message started again")).to_be_visible()
    wait_until(lambda: shop.inspection.workflow(failed.workflow_id).done == failed.done + 1)
    page.goto(f"workflows/{running.workflow_id}")
    page.get_by_role("button", name="Cancel the workflow").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")

    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text(f"workflow {running.workflow_id}")
    expect(page.get_by_role("row").nth(2)).to_contain_text("part 0.1.1.1 of workflow")


@on_one_store
def test_settings_change_how_pages_look(page, shop):
    page.emulate_media(color_scheme="light")
    page.goto("settings")

    page.get_by_label("dark").check()
    page.get_by_label("compact").check()
    page.get_by_label("never").check()
    page.get_by_role("button", name="Save").click()

    expect(page.get_by_text("settings of this browser are saved")).to_be_visible()
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(15, 18, 24)"
    page.goto("queues")
    expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()


@on_one_store
def test_without_javascript_everything_can_be_done(chromium, shop):
    context = chromium.new_context(base_url=f"{shop.url}/", java_script_enabled=False)
    page = context.new_page()
    shop.is_mended = False
    shop.actors["send_invoice"].send(600)
    wait_until(lambda: shop.count_dead(actor_name="send_invoice") == 1)

    page.goto("failures")
    page.get_by_role("link", name="Delete TimeoutError of send_invoice").click()
    page.get_by_role("button", name="Delete 1").click()

    expect(page.get_by_text("1 dead letters for actor send_invoice")).to_be_visible()
    assert shop.count_dead(actor_name="send_invoice") == 0
    expect(page.locator(".js").first).to_be_hidden()
    context.close()


@on_one_store
def test_nothing_is_offered_that_is_forbidden(chromium, shop):
    app = DashboardApp(shop.broker, auth=lambda request: Visitor("eve", VERBS & {"view_args"}))
    with serve(app) as url:
        page = chromium.new_page(base_url=f"{url}/")
        for path in pages_of_reader():
            page.goto(path)
            expect(page.get_by_role("button", name="Requeue")).to_have_count(0)
            expect(page.get_by_role("button", name="Pause queue")).to_have_count(0)
            expect(page.get_by_role("link", name="Purge")).to_have_count(0)
            expect(page.get_by_role("link", name="Delete")).to_have_count(0)
        page.goto("queues/mail/purge")
        expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()
        page.close()


def pages_of_reader():
    return ["queues", "queues/mail", "messages?state=dead", "failures"]
