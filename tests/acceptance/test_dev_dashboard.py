"""The dashboard beside `dramatiq dev`: it outlives reloads, and nothing outlives its program."""

from __future__ import annotations

import os
import re
import signal
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from dramatiq.testing.waiting import wait_until
from tests.acceptance.conftest import is_alive

APP = """\
import dramatiq


@dramatiq.actor
def add(left, right):
    return left + right
"""


class Visitor:
    """Follows the link in a program's output, and looks at pages."""

    def __init__(self, program):
        program.wait_for("Dashboard: ")
        link = re.search(r"Dashboard: (\S+)", program.output)[1]
        self.root = link.partition("/login")[0]
        self.opener = build_opener(HTTPCookieProcessor(CookieJar()))
        assert self.opener.open(link, timeout=20).status == 200

    def read(self, path):
        return self.opener.open(self.root + path, timeout=20).read().decode()


def dashboard_of(program):
    """Return the process id of the dashboard that a program has as its child."""
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    (found,) = (
        int(pid)
        for pid in children
        if b"--end-with-stdin" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return found


def test_it_is_there_with_its_visitors_after_a_reload_and_ends_with_the_worker(
    write_module, run, command
):
    write_module("app", APP, preamble="")
    program = run("dev", "app", "--history").wait_until_ready()
    visitor = Visitor(program)
    pid = dashboard_of(program)
    assert ">add</a>" in visitor.read("/actors")

    program.send(signal.SIGHUP).wait_until_ready(2)
    assert command("enqueue", "app", "add", "19", "23").returncode == 0

    wait_until(lambda: '"actor_name":"add"' in visitor.read("/api/v1/attempts"))
    assert dashboard_of(program) == pid
    assert program.output.count("Dashboard: ") == 2  # the second is for another browser
    assert program.stop() == 0
    wait_until(lambda: not is_alive(pid))


def test_it_does_not_outlive_a_program_that_is_killed(write_module, run):
    write_module("app", APP, preamble="")
    program = run("dev", "app").wait_until_ready()
    program.wait_for("Dashboard: ")
    pid = dashboard_of(program)

    program.send(signal.SIGKILL)

    wait_until(lambda: not is_alive(pid))


def test_one_that_has_died_is_replaced_by_a_reload(write_module, run):
    write_module("app", APP, preamble="")
    program = run("dev", "app").wait_until_ready()
    program.wait_for("Dashboard: ")
    pid = dashboard_of(program)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    program.send(signal.SIGHUP).wait_until_ready(2).wait_for("Dashboard: ", 2)

    assert is_alive(dashboard_of(program))
    assert program.stop() == 0


@pytest.mark.parametrize("is_wanted", [True, False])
def test_without_the_extra_a_line_says_how_to_get_it(write_module, run, tmp_path, is_wanted):
    write_module("app", APP, preamble="")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text("import sys\nsys.modules['uvicorn'] = None\n")
    options = [] if is_wanted else ["--no-dashboard"]

    program = run("dev", "app", *options, environment={"PYTHONPATH": "hidden"}).wait_until_ready()

    hint = "dramatiq dev: no dashboard here. To have it: pip install 'dramatiq[dashboard]'\n"
    assert program.output.count(hint) == is_wanted
    assert program.stop() == 0
    assert "Dashboard" not in program.output
