"""`workflows` on stores that processes share, without the application at hand."""

from __future__ import annotations

import json

import pytest

from .conftest import eventually

APP = """\
from pathlib import Path

import dramatiq
from dramatiq import group


@dramatiq.actor(max_retries=0)
def fetch(name):
    if not Path(name).exists():
        raise ValueError(f"{name} is not there")
    return name


@dramatiq.actor
def join(names):
    Path("joined").write_text(" ".join(names))


@dramatiq.actor
def start():
    return group([fetch.message("here"), fetch.message("there")]) | join.message()
"""


@pytest.fixture(params=["sqlite", "redis"])
def url(request):
    if request.param == "sqlite":
        return "sqlite:///dramatiq.db"
    return request.getfixturevalue("redis_server").url


def test_a_failed_workflow_is_found_shown_and_retried(command, run, write_module, tmp_path, url):
    write_module("app", APP, preamble="")
    (tmp_path / "here").touch()
    worker = run("app", "-p", "1", environment={"DRAMATIQ_BROKER_URL": url}).wait_until_ready()

    def workflows(*words):
        done = command("workflows", *words, url=url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(state):
        return json.loads(workflows("list", "--state", state, "--json"))

    command("enqueue", "app", "start", url=url)
    eventually(lambda: listed("failed"))

    [failed] = listed("failed")
    flow = failed["workflow_id"]
    assert failed["error"]["message"] == "there is not there"
    shown = workflows("show", flow[:12])
    assert "ValueError: there is not there" in shown
    assert "join" in shown

    (tmp_path / "there").touch()
    assert workflows("retry", "--all", "--yes") == "1 started again\n"

    eventually((tmp_path / "joined").exists)
    assert (tmp_path / "joined").read_text() == "here there"
    assert worker.stop() == 0
