"""The dashboard in frameworks, and alone."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from contextlib import closing

import django.conf
import httpx2
import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import clear_url_caches, include, path
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from dramatiq.brokers.sqlite import SQLiteBroker
from dramatiq.dashboard import DashboardApp, django_urls, make_wsgi_app
from tests.servers import free_port

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
#: Django's URLs; each test sets them.
urlpatterns = []


def test_it_is_mounted_in_asgi_frameworks(broker):
    broker.declare_queue("mail")
    app = Starlette(routes=[Mount("/admin/jobs", DashboardApp(broker, auth=None))])
    client = TestClient(app, headers=SAME_ORIGIN, follow_redirects=False)

    page = client.get("/admin/jobs/queues")
    answer = client.post("/admin/jobs/queues/mail/pause", data={"next": "/queues"})

    assert 'href="/admin/jobs/queues/mail"' in page.text
    assert answer.headers["location"] == "/admin/jobs/queues"
    assert "Path=/admin/jobs;" in answer.headers["set-cookie"]
    assert broker.inspection.queue("mail").is_paused


def test_it_is_mounted_in_flask(broker):
    broker.declare_queue("mail")
    flask = Flask(__name__)
    dashboard = make_wsgi_app(DashboardApp(broker, auth=None))
    flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/a/b": dashboard})
    client = flask.test_client()

    page = client.get("/a/b/queues", buffered=True)
    answer = client.post("/a/b/queues/mail/pause", headers=SAME_ORIGIN, buffered=True)

    assert 'href="/a/b/queues/mail"' in page.text
    assert client.get("/a/b/static/style.css", buffered=True).status_code == 200
    assert (answer.status_code, answer.headers["location"]) == (303, "/a/b/queues")
    assert broker.inspection.queue("mail").is_paused
    assert client.post("/a/b/queues/mail/resume", buffered=True).status_code == 403


@pytest.fixture
def django_client():
    if not django.conf.settings.configured:
        django.conf.settings.configure(SECRET_KEY="x")
        django.setup()
    # Another test of this process may have configured it for a database.
    with override_settings(
        ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], SECRET_KEY="x", DEBUG=False
    ):
        yield Client(enforce_csrf_checks=True)
        urlpatterns.clear()
        clear_url_caches()


def test_it_is_mounted_in_django(broker, django_client):
    broker.declare_queue("mail")

    def auth(request):
        return request.scope["django_request"].headers.get("x-user")

    urlpatterns.append(path("a/b/", include(django_urls(DashboardApp(broker, auth=auth)))))
    urlpatterns.append(path("", lambda request: HttpResponse("the application")))
    ada = {"x-user": "ada"}

    page = django_client.get("/a/b/queues", headers=ada)
    answer = django_client.post("/a/b/queues/mail/pause", headers=ada | SAME_ORIGIN)

    assert 'href="/a/b/queues/mail"' in page.content.decode()
    assert django_client.get("/a/b/", headers=ada).status_code == 200
    assert django_client.get("/a/b/").status_code == 403
    assert django_client.get("/").content == b"the application"
    assert (answer.status_code, answer["location"]) == (303, "/a/b/queues")
    assert answer.cookies["dramatiq_flash"].value.startswith("Queue%20mail")
    assert broker.inspection.queue("mail").is_paused
    other = {"Sec-Fetch-Site": "cross-site"}
    assert django_client.post("/a/b/queues/mail/resume", headers=ada | other).status_code == 403
    form = {"theme": "dark", "density": "compact", "refresh": "2"}
    saved = django_client.post("/a/b/settings", form, headers=ada | SAME_ORIGIN)
    assert {"dramatiq_flash", "dramatiq_settings"} == set(saved.cookies)


@pytest.fixture
def alone(tmp_path):
    """Run `dramatiq dashboard`; return its first link and its process."""
    processes = []

    def run(*arguments):
        broker = SQLiteBroker(tmp_path / "dramatiq.db")
        broker.declare_queue("mail")
        broker.close()
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "dashboard", *arguments],
            cwd=tmp_path,
            env={"DRAMATIQ_BROKER_URL": f"sqlite:///{tmp_path}/dramatiq.db"},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return next_link(process), process

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def next_link(process):
    return re.search(r"http://\S+", process.stdout.readline())[0]


@pytest.fixture
def browser():
    """Make a browser with cookies of its own."""
    browsers = []

    def make():
        browsers.append(httpx2.Client(follow_redirects=True, headers=SAME_ORIGIN))
        return browsers[-1]

    yield make
    for each in browsers:
        each.close()


def test_alone_it_lets_in_who_has_the_link_of_the_terminal_once(alone, browser):
    link, process = alone("--port", str(free_port()), "--environment", "staging")
    base = link.partition("/login")[0]
    friend, stranger = browser(), browser()
    assert base.startswith("http://127.0.0.1:")

    page = friend.get(link).text
    assert "staging" in page
    assert "Overview" in page
    for url in (link, base, f"{base}/login?token=", f"{base}/login"):
        assert stranger.get(url).status_code == 403
    assert "<dd>shown</dd>" in friend.get(f"{base}/settings").text
    assert stranger.get(next_link(process)).status_code == 200  # there is another link by now
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_alone_it_may_be_read_only(alone, browser):
    link, _ = alone("--port", str(free_port()), "--read-only", "--hide-args")
    base = link.partition("/login")[0]
    friend = browser()
    friend.get(link)

    assert friend.post(f"{base}/queues/mail/pause").status_code == 403
    assert "<dd>hidden</dd>" in friend.get(f"{base}/settings").text


def test_alone_it_says_that_its_port_is_taken(tmp_path):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        finished = subprocess.run(
            [sys.executable, "-m", "dramatiq", "dashboard", "--port", port],
            cwd=tmp_path,
            env={"DRAMATIQ_BROKER_URL": "stub://"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert finished.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize("package", ["starlette", "jinja2", "uvicorn"])
def test_what_is_not_installed_is_named_with_the_way_to_install_it(tmp_path, package):
    program = f"import sys; sys.modules[{package!r}] = None; from dramatiq.cli import main; main()"
    finished = subprocess.run(
        [sys.executable, "-c", program, "dashboard"],
        cwd=tmp_path,
        env={"DRAMATIQ_BROKER_URL": "stub://"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"needs {package}" in finished.stderr
    assert "pip install 'dramatiq[dashboard]'" in finished.stderr
    assert "Traceback" not in finished.stderr
