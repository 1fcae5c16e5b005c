"""Start the real program in a directory with a small application, and look at it from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

#: Seconds after which something that should happen counts as not happening.
DEADLINE_S = 15.0

#: What most applications here start with.
PREAMBLE = """\
import os, signal, sys, threading, time
import dramatiq
from dramatiq.brokers.stub import StubBroker

broker = StubBroker()
dramatiq.set_broker(broker)


class AtStart(dramatiq.Middleware):
    # Sends a message of the actor `work`, where there is one, as soon as the worker runs.
    def after_worker_boot(self, broker, worker):
        if "work" in broker.actors:
            broker.actors["work"].send()


broker.add_middleware(AtStart())

"""


def eventually(condition, what="the condition", timeout_s=DEADLINE_S):
    """Wait until the condition returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.01)


def state_of(pid):
    """Return the kernel's letter for what a process does; None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    """Tell whether the process runs: a zombie does not."""
    return state_of(pid) not in {None, "Z"}


class Program:
    """One run of the program, in a process group of its own."""

    def __init__(self, directory, arguments, command, environment):
        self.directory = directory
        self._output = directory / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def output(self):
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, text, count=1):
        """Wait until the output contains the text, as often as asked."""

        def has_come():
            return self.output.count(text) >= count

        deadline = time.monotonic() + DEADLINE_S
        while not has_come():
            if self.process.poll() is not None and not has_come():
                pytest.fail(f"ended with {self.process.returncode} before {text!r}:\n{self.output}")
            if time.monotonic() > deadline:
                pytest.fail(f"{text!r} did not come {count} times:\n{self.output}")
            time.sleep(0.01)
        return self

    def wait_until_ready(self, processes=1):
        return self.wait_for("Worker process is ready.", processes)

    def worker_pids(self, index=None):
        """Return the ids of the workers that became ready, oldest first."""
        which = r"\d+" if index is None else str(index)
        pattern = rf"\[PID (\d+)\] .*WorkerProcess\({which}\)\] \[INFO\] Worker process is ready"
        return [int(pid) for pid in re.findall(pattern, self.output)]

    def send(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self

    def send_to_group(self, number):
        os.killpg(self.pid, number)
        return self

    def wait(self):
        """Return the exit code."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end:\n{self.output}")

    def stop(self):
        return self.send().wait()

    def clean_up(self):
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


@pytest.fixture
def write_module(tmp_path):
    """Write a module into the directory of the application."""

    def write(name, source, preamble=PREAMBLE):
        path = tmp_path / f"{name}.py"
        path.write_text(preamble + textwrap.dedent(source))
        return path

    return write


@pytest.fixture
def run(tmp_path):
    """Start the program with some arguments; it ends with the test."""
    programs = []

    def start(*arguments, script=None, environment=None):
        command = [sys.executable, "-m", "dramatiq"] if script is None else [sys.executable, script]
        program = Program(tmp_path, arguments, command, environment or {})
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.clean_up()
        sys.stdout.write(program.output)  # pytest shows it when the test fails


@pytest.fixture
def command(tmp_path):
    """Run a command to its end in the directory of the application, without a terminal."""

    def run(*arguments, url="sqlite:///dramatiq.db"):
        return subprocess.run(
            [sys.executable, "-m", "dramatiq", *arguments],
            cwd=tmp_path,
            env={**os.environ, "DRAMATIQ_BROKER_URL": url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run
