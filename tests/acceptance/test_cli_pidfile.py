"""The PID file, as an init system sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from .conftest import eventually

ARGUMENTS = ("app", "-p", "1", "-t", "1", "--pid-file", "dramatiq.pid")


@pytest.fixture
def pid_file(tmp_path, write_module):
    write_module("app", "")
    return tmp_path / "dramatiq.pid"


def test_it_holds_the_main_process_and_is_removed_at_the_end(run, pid_file):
    program = run(*ARGUMENTS).wait_until_ready()
    content = pid_file.read_text()

    code = program.stop()

    assert content == str(program.pid)
    assert code == 0
    assert not pid_file.exists()


def test_a_stale_one_is_replaced(run, pid_file):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(30)
    pid_file.write_text(str(dead.pid))

    program = run(*ARGUMENTS).wait_until_ready()

    assert pid_file.read_text() == str(program.pid)
    assert program.stop() == 0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("important data", id="no number"),
        pytest.param(str(os.getpid()), id="a living process"),
    ],
)
def test_one_that_is_not_ours_stops_the_start(run, pid_file, content):
    pid_file.write_text(content)

    program = run(*ARGUMENTS)

    assert program.wait() == 4
    assert "[CRITICAL]" in program.output
    assert pid_file.read_text() == content


def test_a_directory_that_is_missing_stops_the_start(run, pid_file):
    program = run("app", "--pid-file", "missing/dramatiq.pid")

    assert program.wait() == 4


def test_it_stays_over_a_reload(run, pid_file):
    program = run(*ARGUMENTS).wait_until_ready()

    program.send(signal.SIGHUP).wait_until_ready(2)
    content = pid_file.read_text()
    code = program.stop()

    assert content == str(program.pid)
    assert code == 0
    assert not pid_file.exists()


def test_it_is_removed_when_the_application_cannot_be_imported(run, pid_file, write_module):
    write_module("app", "import surely_not_installed")

    code = run(*ARGUMENTS).wait()

    assert code == 2
    eventually(lambda: not pid_file.exists(), "its removal")
