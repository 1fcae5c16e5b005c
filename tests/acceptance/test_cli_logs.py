"""Whoever reads the log may be slow, stopped or gone: the program works on and stops as asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import DEADLINE_S, eventually, is_alive

CHATTY = """
    @dramatiq.actor
    def work():
        for number in range(30_000):
            print("a line that is as long as lines of logs are, and that nobody reads", number)
        open("done", "w").close()
"""


@pytest.fixture
def run_into_pipe(tmp_path):
    """Start the program with its standard error in a pipe that is ours to read, or not."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "app", "-p", "1", "-t", "2", *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        process.stderr.close()


def children_of(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def test_a_stopped_reader_keeps_nobody_from_working_and_stopping(
    tmp_path, write_module, run_into_pipe
):
    write_module("app", CHATTY)
    program = run_into_pipe()

    eventually((tmp_path / "done").exists, "the end of the work")
    program.send_signal(signal.SIGTERM)

    assert program.wait(DEADLINE_S) == 0


def test_a_stopped_reader_does_not_keep_dead_workers_from_being_replaced(
    tmp_path, write_module, run_into_pipe
):
    write_module("app", CHATTY)
    program = run_into_pipe()
    eventually((tmp_path / "done").exists, "the end of the work")
    (worker,) = children_of(program)

    os.kill(worker, signal.SIGKILL)

    eventually(lambda: children_of(program) not in ([], [worker]), "a replacement")
    program.send_signal(signal.SIGTERM)
    assert program.wait(DEADLINE_S) == 0


def test_a_reader_that_is_killed_takes_nobody_with_it(tmp_path, write_module, run_into_pipe):
    write_module("app", CHATTY)
    program = run_into_pipe()
    program.stderr.read(1)
    program.stderr.close()

    eventually((tmp_path / "done").exists, "the end of the work")
    (worker,) = children_of(program)
    program.send_signal(signal.SIGHUP)
    eventually(lambda: not is_alive(worker), "the end of the old worker")
    eventually(lambda: children_of(program) not in ([], [worker]), "the reload")
    program.send_signal(signal.SIGTERM)

    assert program.wait(DEADLINE_S) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_log_file_on_a_full_disk_keeps_nobody_from_working(tmp_path, write_module, run_into_pipe):
    write_module("app", CHATTY)

    program = run_into_pipe("--log-file", "/dev/full")
    eventually((tmp_path / "done").exists, "the end of the work")
    program.send_signal(signal.SIGTERM)
    _, errors = program.communicate(timeout=DEADLINE_S)

    assert program.returncode == 0
    assert errors == b""
